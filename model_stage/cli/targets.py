"""`lookback-model targets`: is a targets.yaml right, and what have the positional encodings of a bundle learned."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from model_stage.config.schema import Schema, load_yaml
from model_stage.config.targets import Targets
from model_stage.config.yaml_lines import line_of
from model_stage.errors import ConfigError
from model_stage.json_file import write_json
from store.cli.shared import add_row
from store.plotting import check_matplotlib
from store.screen import screen

if TYPE_CHECKING:
    from model_stage.inspection.positions import Curves

app = typer.Typer(no_args_is_help=True, help="Optimisation objectives and their positional encodings.")


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The targets.yaml to check.")],
    schema: Annotated[Path | None, typer.Option("--schema", help="The schema.yaml it is to be used with.")] = None,
) -> None:
    """Check a targets.yaml; an error names file, key, line and what is allowed."""
    targets = load_yaml(file, Targets)
    if schema is not None:
        check_schema(targets, load_yaml(schema, Schema), schema)
    table = Table("target", "weight", "tables", "positions", title=f"{file}: sound", title_justify="left")
    for target in targets.targets:
        kinds = ", ".join(f"{position.kind} ({position.buckets} rows)" for position in target.positions)
        add_row(table, target.name, f"{target.weight:g}", target.table_name, kinds or "none")
    screen().print(table)


@app.command()
def show(
    bundle: Annotated[Path, typer.Option("--bundle", help="Root of model bundles.")],
    target: Annotated[list[str] | None, typer.Option(help="Only this target; may be repeated.")] = None,
    against: Annotated[Path | None, typer.Option(help="Root of a bundle to compare with.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the numbers here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG file to draw; needs the extra `report`.")] = None,
) -> None:
    """Say what each target's positional encodings have learned: attention over age, position, phase and match level."""
    from model_stage.bundle import load_bundle
    from model_stage.inspection.plot import plot_positions
    from model_stage.inspection.positions import grids_of, learned

    if plot is not None:
        check_matplotlib()
    model = load_bundle(bundle)
    names = model.targets.names
    for name in target or ():
        if name not in names:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(names)}", param_hint="--target")
    compared = load_bundle(against) if against is not None else None
    grids = grids_of((*model.targets.targets, *(compared.targets.targets if compared is not None else ())))
    curves = learned(model, grids, target or names)
    other = learned(compared, grids, target or names) if compared is not None else []
    console = screen()
    for each in curves:
        same = [theirs for theirs in other if theirs.grid.name == each.grid.name]
        console.print(_curve_table(each, same[0] if same else None))
    if not curves:
        console.print("no target has a positional encoding")
    other_name = compared.name if compared is not None else ""
    content = {
        "bundle": model.name,
        "curves": [asdict(each) for each in curves],
        "against": other_name,
        "against_curves": [asdict(each) for each in other],
    }
    write_json(json_file, content)
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


def _curve_table(curves: Curves, other: Curves | None) -> Table:
    """One row per grid point; with another bundle, its difference (other less this) in brackets."""
    grid = curves.grid
    title = f"{grid.name}: share of the attention beside {grid.labels[grid.reference]}"
    table = Table(grid.unit, title=title, title_justify="left")
    for target in curves.share:
        table.add_column(target, justify="right")
    for at, label in enumerate(grid.labels):
        cells = []
        for target, share in curves.share.items():
            theirs = other.share.get(target) if other is not None else None
            change = f" ({theirs[at] - share[at]:+.3f})" if theirs is not None else ""
            cells.append(f"{share[at]:.3f}{change}")
        add_row(table, label, *cells)
    return table
