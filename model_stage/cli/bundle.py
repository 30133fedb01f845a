"""`lookback-model bundle`: what a published bundle is, how two differ, and whether one is whole."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from model_stage.json_file import write_json
from store.cli.shared import add_row
from store.screen import screen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from model_stage.inspection.diff import BundleDiff
    from model_stage.inspection.facts import BundleFacts

app = typer.Typer(no_args_is_help=True, help="Look into published bundles.")

RootOption = Annotated[Path, typer.Option("--bundle", help="Root of model bundles.")]
NameOption = Annotated[str | None, typer.Option("--name", help="Bundle to open; default: the current one.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Also write all of it here.")]
WEIGHT_ROWS = 20
"""Rows of the table of changed weights; the JSON has them all."""


@app.command()
def show(bundle: RootOption, name: NameOption = None, json_file: JsonOption = None) -> None:
    """Say what a bundle is: configuration, training data, metrics, files."""
    from model_stage.inspection.facts import facts_of

    console = screen()
    _, facts = facts_of(bundle, name)
    for table in _fact_tables(facts):
        console.print(table)
    write_json(json_file, asdict(facts))


@app.command()
def diff(
    bundle: RootOption,
    other: Annotated[Path, typer.Option("--other", help="Root of the bundle to compare with; may be the same.")],
    name: NameOption = None,
    other_name: Annotated[str | None, typer.Option(help="Bundle of that root; default: the current one.")] = None,
    json_file: JsonOption = None,
) -> None:
    """Say how two bundles differ: configuration, metrics, weights, learned positional encodings."""
    from model_stage.inspection.diff import diff_bundles
    from model_stage.inspection.facts import facts_of

    found = diff_bundles(facts_of(bundle, name), facts_of(other, other_name))
    console, tables = screen(), _diff_tables(found)
    for table in tables:
        console.print(table)
    if not tables:
        console.print(f"{found.left} and {found.right} say the same")
    write_json(json_file, asdict(found))


@app.command()
def verify(bundle: RootOption, name: NameOption = None) -> None:
    """Check every file and tensor of a bundle and score a made-up request; exit status 1 on damage."""
    from model_stage.inspection.verify import verify_bundle

    console = screen()
    for what, found in verify_bundle(bundle, name):
        console.print(f"{what}: {found}", markup=False, highlight=False, soft_wrap=True)
    console.print("the bundle is sound")


def _fact_tables(facts: BundleFacts) -> list[Table]:
    made = facts.provenance
    span = (
        f"{_time(made['train_from_ms'])} to {_time(made['train_until_ms'])}"
        if made["train_from_ms"] is not None
        else "not recorded"
    )
    what = Table("what", "value", title=f"bundle {facts.name}", title_justify="left")
    for key, value in (
        ("published", _time(facts.created_ms)),
        ("network", _words(facts.network)),
        ("schema sha256", made["schema_sha256"] or "not recorded"),
        ("schema", _words({key: value for key, value in facts.schema.items() if key != "fields"})),
        ("fields", ", ".join(_field(field, facts.field_rows) for field in facts.schema["fields"]) or "none"),
        ("trained on impressions", span),
        ("store generation", made["store_generation"] or "not recorded"),
        ("taxonomy", made["taxonomy_fingerprint"] or "not recorded"),
        ("attention model", facts.attention_model),
        ("parameters", ", ".join(f"{part} {count:,}" for part, count in facts.parameters.items())),
    ):
        add_row(what, key, value)
    targets = Table("target", "weight", "group", "positions", "calibration", title="targets", title_justify="left")
    for target in facts.targets["targets"]:
        positions = "; ".join(_words(position) for position in target["positions"])
        kind = facts.calibration[target["name"]]
        add_row(targets, target["name"], f"{target['weight']:g}", target["group"] or "", positions, kind)
    files = Table("file", "bytes", "sha256", title="files", title_justify="left")
    for path, file in facts.files.items():
        add_row(files, path, f"{file.bytes:,}", file.sha256)
    return [what, targets, *_metric_tables(facts.metrics), files]


def _field(field: Mapping[str, Any], rows: Mapping[str, int]) -> str:
    name, kind = field["name"], field["kind"]
    return (
        f"{field['part']} {name} ({kind}, {rows[name]:,} rows)" if name in rows else f"{field['part']} {name} ({kind})"
    )


def _metric_tables(metrics: Any) -> list[Table]:  # noqa: ANN401 (nested numbers, as training reported them)
    measured = metrics.get("validation", {})
    if not measured:
        return []
    names = list(next(iter(measured.values())))
    table = Table("target", *names, title="validation, as training measured it", title_justify="left")
    for target, numbers in measured.items():
        add_row(table, target, *(f"{value:,.0f}" if value >= 1e4 else f"{value:.4g}" for value in numbers.values()))
    return [table]


def _diff_tables(found: BundleDiff) -> list[Table]:
    tables = []
    for title, differences in (("configuration", found.config), ("metrics", found.metrics)):
        table = Table("key", found.left, found.right, title=title, title_justify="left")
        for each in differences:
            add_row(table, each.key, _value(each.left), _value(each.right))
        tables.append(table)
    table = Table(
        "parameter", "shape", "relative change", title="weights, the most changed first", title_justify="left"
    )
    ordered = sorted(found.weights, key=lambda w: -(w.change if w.change is not None else float("inf")))
    for weight in ordered[:WEIGHT_ROWS]:
        one, other = weight.shapes
        shape = str(one) if one == other else f"{one or 'absent'} -> {other or 'absent'}"
        add_row(table, weight.name, shape, "" if weight.change is None else f"{weight.change:.4f}")
    if len(ordered) > WEIGHT_ROWS:
        table.caption = f"and {len(ordered) - WEIGHT_ROWS} more"
    positions = Table("target", "encoding", "largest change", "at", title="learned positions", title_justify="left")
    for moved in found.positions:
        if moved.largest > 0.0:
            add_row(positions, moved.target, moved.encoding, f"{moved.largest:.4f}", moved.at)
    return [table for table in (*tables, table, positions) if table.row_count]


def _words(values: dict[str, Any] | Any) -> str:  # noqa: ANN401
    return ", ".join(f"{key} {_value(value)}" for key, value in values.items())


def _value(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _time(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
