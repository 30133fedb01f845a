"""The command `report`: all that was measured of a bundle, or of two beside each other, as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from model_stage.cli.bundle import NameOption
from model_stage.cli.search import example_folder, searcher_over
from model_stage.cli.train import DataOption, ExamplesOption, SplitOption
from model_stage.evaluation.verdict import RESAMPLES, TOLERANCE
from store.command import BundleOption, ConfigOption, IndexOption, JsonOption, StoreOption, drawn_file
from store.terminal import steps, warn, write_json, write_text


def report(
    data: DataOption,
    store: StoreOption,
    bundle: BundleOption,
    out: Annotated[Path, drawn_file("--out", "HTML file to write; needs the extra `report`.")],
    index: IndexOption = None,
    config: ConfigOption = None,
    name: NameOption = None,
    against: Annotated[
        Path | None, typer.Option(help="Root of the bundle that it would replace; may be the same root.")
    ] = None,
    against_name: Annotated[str | None, typer.Option(help="Bundle of that root; default: the current one.")] = None,
    against_index: Annotated[
        Path | None, typer.Option(help="Root of the index for it; default: that of --index, if it is of its vectors.")
    ] = None,
    split: SplitOption = "test",
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="Largest loss in a metric that may remain possible to ship.")
    ] = TOLERANCE,
    resamples: Annotated[int, typer.Option(min=100, help="Draws of each bootstrap.")] = RESAMPLES,
    examples: ExamplesOption = None,
    json_file: JsonOption = None,
) -> None:
    """Measure a bundle on a split, alone or against another, and write one page that a phone can read."""
    from model_stage.inspection.facts import facts_of
    from model_stage.report.measure import Opened, measure
    from model_stage.report.sections import page_of
    from search_stage.config import SearchConfig
    from store.behavior_store import BehaviorStore

    if against is None and (against_name or against_index):
        raise typer.BadParameter("says nothing without --against", param_hint="--against-name, --against-index")
    loaded = SearchConfig.load(config)
    with BehaviorStore.open(store) as opened, opened.snapshot() as snapshot, steps() as progress:

        def open_bundle(root: Path, name: str | None, index: Path | None) -> Opened:
            found, facts = facts_of(root, name)
            retriever = searcher_over(opened, index, loaded, found.attention_model)
            kept = example_folder(examples, retriever, index)
            return Opened(bundle=found, facts=facts, snapshot=snapshot, retriever=retriever, examples=kept)

        found = measure(
            data,
            split,
            open_bundle(bundle, name, index),
            None if against is None else open_bundle(against, against_name, against_index or index),
            tolerance=tolerance,
            resamples=resamples,
            on_progress=progress.counted,
        )
    write_text(out, page_of(found))
    if json_file is not None:
        write_json(json_file, found)
    if found.verdict is not None:
        warn(f"{found.verdict.outcome}: {'; '.join(found.verdict.reasons)}")
    warn(f"wrote {out}")
