"""Shows what a published bundle is, how two differ, and whether one is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model_stage.cli.tables import coverage_table
from store.command import BundleOption, JsonOption
from store.terminal import more_text, say, show_report, table, time_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.table import Table

    from model_stage.inspection.diff import BundleDiff
    from model_stage.inspection.facts import BundleFacts

NameOption = Annotated[str | None, typer.Option("--name", help="Bundle to open; default: the current one.")]
WEIGHT_ROWS = 20
"""Rows of the table of changed weights; the JSON has them all."""


def show(bundle: BundleOption, name: NameOption = None, json_file: JsonOption = None) -> None:
    """Say what a bundle is: configuration, training data, metrics, files."""
    from model_stage.inspection.facts import facts_of

    _, facts = facts_of(bundle, name)
    show_report(_fact_tables(facts), facts, json_file)


def diff(
    bundle: BundleOption,
    other: Annotated[Path, typer.Option("--other", help="Root of the bundle to compare with; may be the same.")],
    name: NameOption = None,
    other_name: Annotated[str | None, typer.Option(help="Bundle of that root; default: the current one.")] = None,
    json_file: JsonOption = None,
) -> None:
    """Say how two bundles differ: configuration, metrics, weights, learned positional encodings."""
    from model_stage.inspection.diff import diff_bundles
    from model_stage.inspection.facts import facts_of

    found = diff_bundles(facts_of(bundle, name), facts_of(other, other_name))
    tables = [each for each in _diff_tables(found) if each.row_count]
    show_report(tables or [f"{found.left} and {found.right} say the same"], found, json_file)


def verify(bundle: BundleOption, name: NameOption = None) -> None:
    """Check every file and tensor of a bundle and score a made-up request; exit status 1 on damage."""
    from model_stage.inspection.verify import verify_bundle

    for what, found in verify_bundle(bundle, name):
        say(f"{what}: {found}")
    say("the bundle is sound")


def rollback(
    bundle: BundleOption,
    to: Annotated[str | None, typer.Option(help="Bundle to go back to; default: the one before.")] = None,
) -> None:
    """Make an older bundle current again, after checking it; servers follow."""
    from model_stage.bundle import load_bundle
    from store.publishing.kept import LOCK_FILE, roll_back
    from store.publishing.lock import FileLock

    with FileLock(bundle / LOCK_FILE, "roll back"):
        say(f"current is {roll_back(bundle, 'model', load_bundle, to)}; servers follow when they reload")


def _fact_tables(facts: BundleFacts) -> Iterator[Table]:
    made = facts.provenance
    span = (
        f"{_time(made['train_from_ms'])} to {_time(made['train_until_ms'])}"
        if made["train_from_ms"] is not None
        else "not recorded"
    )
    yield table(
        *("what", "value"),
        rows=(
            ("published", _time(facts.created_ms)),
            ("network", _words(facts.network)),
            ("schema sha256", made["schema_sha256"] or "not recorded"),
            ("schema", _words({key: value for key, value in facts.schema.items() if key != "fields"})),
            ("fields", ", ".join(_field(field, facts.field_rows) for field in facts.schema["fields"]) or "none"),
            ("trained on impressions", span),
            ("store generation", made["store_generation"] or "not recorded"),
            ("taxonomy", made["taxonomy_fingerprint"] or "not recorded"),
            ("search configured with", json.dumps(made["search"]) if made["search"] else "not recorded"),
            ("attention model", facts.attention_model),
            ("vectors served as", _served(facts)),
            ("parameters", ", ".join(f"{part} {count:,}" for part, count in facts.parameters.items())),
        ),
        title=f"bundle {facts.name}",
    )
    yield table(
        *("target", "weight", "group", "positions", "calibration"),
        rows=(
            (
                target["name"],
                f"{target['weight']:g}",
                target["group"] or "",
                "; ".join(_words(position) for position in target["positions"]),
                facts.calibration[target["name"]],
            )
            for target in facts.targets["targets"]
        ),
        title="targets",
    )
    measured = facts.metrics.get("validation", {})
    if measured:
        yield table(
            *("target", *next(iter(measured.values()))),
            rows=((target, *map(_number, numbers.values())) for target, numbers in measured.items()),
            title="validation, as training measured it",
        )
    if coverage := facts.metrics.get("data", {}).get("field_coverage"):
        yield coverage_table(coverage)
    yield from _health_tables(facts.metrics.get("training", {}))
    rows = ((path, file.bytes, file.sha256) for path, file in facts.files.items())
    yield table("file", "bytes", "sha256", rows=rows, title="files")


def _health_tables(training: Mapping[str, Any]) -> Iterator[Table]:
    """Gives the health of what was kept; earlier versions measured none."""
    if not training.get("health"):
        return
    kept = training["health"][training["best_epoch"]]
    yield table(
        *("table", "norm, start = 1: median", "p10", "effective rank", "of", "overlap of soft lists"),
        rows=(
            (
                name,
                *map(_value, (_short(each[key]) for key in ("norm_median", "norm_p10", "effective_rank"))),
                each["directions"],
                _value(_short(each["list_overlap"])),
            )
            for name, each in kept["tables"].items()
        ),
        title="health of the tables",
        caption="\n".join(kept["collapsed"]) or None,
    )
    if kept["attentions"]:
        yield table(
            *("attention", "entropy, uniform = 1", "candidates with a weight above 2 x uniform"),
            rows=(
                (name, f"{each['entropy']:.4f}", f"{each['sharp']:.1%}") for name, each in kept["attentions"].items()
            ),
            title="health of the attentions",
        )


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _served(facts: BundleFacts) -> str:
    drift = facts.metrics.get("bfloat16_drift", {})
    moved = (
        f"{target} {_words({key: f'{value:.1e}' for key, value in each.items()})}" for target, each in drift.items()
    )
    measured = f"; as bfloat16 the validation split moves by {'; '.join(moved)}" if drift else ""
    return facts.served_as + measured


def _field(field: Mapping[str, Any], rows: Mapping[str, int]) -> str:
    name, kind = field["name"], field["kind"]
    return (
        f"{field['part']} {name} ({kind}, {rows[name]:,} rows)" if name in rows else f"{field['part']} {name} ({kind})"
    )


def _diff_tables(found: BundleDiff) -> Iterator[Table]:
    for title, differences in (("configuration", found.config), ("metrics", found.metrics)):
        rows = ((each.key, _value(each.left), _value(each.right)) for each in differences)
        yield table("key", found.left, found.right, rows=rows, title=title)
    ordered = sorted(found.weights, key=lambda w: -(w.change if w.change is not None else float("inf")))
    yield table(
        *("parameter", "shape", "relative change"),
        rows=(
            (weight.name, _shapes(*weight.shapes), "" if weight.change is None else f"{weight.change:.4f}")
            for weight in ordered[:WEIGHT_ROWS]
        ),
        title="weights, the most changed first",
        caption=more_text(len(ordered), WEIGHT_ROWS),
    )
    yield table(
        *("target", "encoding", "largest change", "at"),
        rows=(
            (moved.target, moved.encoding, f"{moved.largest:.4f}", moved.at)
            for moved in found.positions
            if moved.largest > 0.0
        ),
        title="learned positions",
    )


def _shapes(one: tuple[int, ...] | None, other: tuple[int, ...] | None) -> str:
    return str(one) if one == other else f"{one or 'absent'} -> {other or 'absent'}"


def _number(value: float | None) -> str:
    if value is None:  # nothing to measure it on
        return "-"
    return f"{value:,.0f}" if value >= 1e4 else f"{value:.4g}"


def _words(values: dict[str, Any] | Any) -> str:  # noqa: ANN401
    return ", ".join(f"{key} {_value(value)}" for key, value in values.items())


def _value(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _time(timestamp_ms: int) -> str:
    return f"{time_text(timestamp_ms)} UTC"
