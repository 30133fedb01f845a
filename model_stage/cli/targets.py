"""Optimisation objectives and their positional encodings."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_stage.config.schema import Schema, load_yaml
from model_stage.config.targets import Targets
from model_stage.errors import ConfigError
from store.command import BundleOption, JsonOption, PlotOption
from store.files.yaml_text import line_of
from store.terminal import say, show_report, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from model_stage.inspection.positions import Curves


def check(
    file: Annotated[Path, typer.Argument(help="The targets.yaml to check.")],
    schema: Annotated[Path | None, typer.Option("--schema", help="The schema.yaml it is to be used with.")] = None,
) -> None:
    """Check a targets.yaml; an error names file, key, line and what is allowed."""
    targets = load_yaml(file, Targets)
    if schema is not None:
        check_schema(targets, load_yaml(schema, Schema), schema)
    rows = (
        (
            target.name,
            f"{target.weight:g}",
            target.table_name,
            ", ".join(f"{position.kind} ({position.buckets} rows)" for position in target.positions) or "none",
        )
        for target in targets.targets
    )
    say(table("target", "weight", "tables", "positions", rows=rows, title=f"{file}: sound"))


def show(
    bundle: BundleOption,
    target: Annotated[list[str] | None, typer.Option(help="Only this target; may be repeated.")] = None,
    against: Annotated[Path | None, typer.Option(help="Root of a bundle to compare with.")] = None,
    json_file: JsonOption = None,
    plot: PlotOption = None,
) -> None:
    """Say what each target's positional encodings have learned: attention over age, position, phase and match level."""
    from model_stage.bundle import load_bundle
    from model_stage.inspection.plot import plot_positions
    from model_stage.inspection.positions import grids_of, learned

    model = load_bundle(bundle)
    names = model.targets.names
    for name in target or ():
        if name not in names:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(names)}", param_hint="--target")
    compared = load_bundle(against) if against is not None else None
    grids = grids_of((*model.targets.targets, *(compared.targets.targets if compared is not None else ())))
    curves = learned(model, grids, target or names)
    other = learned(compared, grids, target or names) if compared is not None else []
    other_name = compared.name if compared is not None else ""
    content = {
        "bundle": model.name,
        "curves": [asdict(each) for each in curves],
        "against": other_name,
        "against_curves": [asdict(each) for each in other],
    }
    show_report(_curve_parts(curves, other), content, json_file)
    if plot is not None and curves:
        plot_positions(plot, model.name, curves, other_name, other)


def check_schema(targets: Targets, schema: Schema, path: Path) -> None:
    """Checks that targets do not contradict the schema they are to be used with.

    Raises:
        ConfigError: A field is a target's label: the network would read the answer.
    """
    labels = {f"label_{name}": name for name in targets.names}
    for at, field in enumerate(schema.fields):
        if field.name in labels:
            line = line_of(path.read_text(encoding="utf-8"), ("fields", at, "name"))
            raise ConfigError(
                f"{path}: fields.{at}.name: {field.name!r} is the label of target {labels[field.name]!r}, "
                f"and no field; leave it out, or rename field or target (line {line})"
            )


def _curve_parts(curves: list[Curves], other: list[Curves]) -> Iterator[Table | str]:
    same = {theirs.grid.name: theirs for theirs in other}
    for each in curves:
        yield _curve_table(each, same.get(each.grid.name))
    if not curves:
        yield "no target has a positional encoding"


def _curve_table(curves: Curves, other: Curves | None) -> Table:
    """One row per grid point; with another bundle, its difference (other less this) in brackets."""

    def cell(target: str, at: int) -> str:
        ours = curves.share[target][at]
        theirs = other.share.get(target) if other is not None else None
        return f"{ours:.3f}" + (f" ({theirs[at] - ours:+.3f})" if theirs is not None else "")

    grid = curves.grid
    return table(
        *(grid.unit, *curves.share),
        rows=((label, *(cell(target, at) for target in curves.share)) for at, label in enumerate(grid.labels)),
        title=f"{grid.name}: share of the attention beside {grid.labels[grid.reference]}",
        right=tuple(curves.share),
    )
