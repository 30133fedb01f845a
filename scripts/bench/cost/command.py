"""What every preset costs, by length of history and number of candidates: `python -m scripts.bench cost --json FILE`.

Made-up requests and untrained networks: cost does not depend on what was learned. One thread unless `OMP_NUM_THREADS`
says more.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import typer
from rich.progress import track

from model_stage.networks.preset import preset_names
from scripts.bench.cost.blocks import linear_against_quadratic, longer_cache, longer_merge
from scripts.bench.cost.measure import activation_mib, count_flops, median_ms
from scripts.bench.cost.world import make_batch, make_network
from scripts.bench.markdown import paragraph, rows_table
from scripts.bench.report import ReportFile, finish, head, new_facts
from store.command import JsonOption

if TYPE_CHECKING:
    from collections.abc import Mapping

    from model_stage.encoding.batch import Batch
    from model_stage.networks import RankingNetwork

LENGTHS = (200, 1_000, 2_000, 10_000)
CANDIDATES = (1, 100)
_MOST_TRAINED = 250_000
"""Pairs of a training step, at most: a backward pass over a million takes more memory than this machine has."""
OWN, UNION = 100, 1_500
"""Candidates with lists of their own: behaviors of each, and of all of them."""
_NAMES = (
    "preset",
    "L",
    "own",
    "C",
    "parameters",
    "not in tables",
    "MFLOPs",
    "inference, ms",
    "activations, MiB",
    "train, ms",
)


def cost(
    json_file: JsonOption = None,
    report: ReportFile = None,
    longest: Annotated[int, typer.Option(min=200, help="Leave out longer histories.")] = LENGTHS[-1],
    preset: Annotated[list[str] | None, typer.Option(help="Only these; default: all.")] = None,
) -> None:
    """Counts and times every preset, and what LONGER and linear attention are said to save."""
    torch.set_num_threads(1)
    lengths = [length for length in LENGTHS if length <= longest]
    facts = new_facts(f"cost --json FILE --longest {longest}", Path(), torch=torch.__version__)
    cases = [(name, length) for name in preset or preset_names() for length in lengths]
    facts |= {
        "rows": [row for name, length in track(cases, "presets") for row in cost_of(name, length)],
        "own_lists": [cost_of_own_lists(name) for name in track(preset or preset_names(), "lists of their own")],
        "longer_merge": longer_merge(lengths),
        "longer_cache": longer_cache(lengths),
        "linear_against_quadratic": linear_against_quadratic(lengths),
    }
    finish(facts, _sections(facts), json_file, report)


def cost_of(preset: str, length: int) -> list[dict[str, Any]]:
    """Gives the cost of one request of `length` behaviors, for each number of candidates, all with the same list."""
    return [_cost_of(make_network(preset), preset, length, count, None) for count in CANDIDATES]


def cost_of_own_lists(preset: str) -> dict[str, Any]:
    """Gives the cost of the most candidates, each with a list of its own."""
    return _cost_of(make_network(preset), preset, UNION, CANDIDATES[-1], OWN)


def _cost_of(network: RankingNetwork, preset: str, length: int, count: int, own: int | None) -> dict[str, Any]:
    tables = sum(part.node.weight.numel() for part in (network.attention, network.representation))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    batch = make_batch(length, count, own)
    trained = (own or length) * count <= _MOST_TRAINED
    network.eval()
    with torch.inference_mode():
        inference_ms = median_ms(partial(network, batch))
    return {
        "preset": preset,
        "L": length,
        "own": own,
        "C": count,
        "parameters": parameters,
        "of_them_not_in_tables": parameters - tables,
        "mflops": count_flops(partial(network, batch)) / 1e6,
        "inference_ms": inference_ms,
        "activation_mib": activation_mib(partial(network.train(), batch)) if trained else None,
        "train_step_ms": median_ms(_train_step(network.train(), batch)) if trained else None,
    }


def _train_step(network: RankingNetwork, batch: Batch) -> Any:  # noqa: ANN401 -- a function without arguments
    optimizer = torch.optim.AdamW(network.parameters())
    labels = (torch.arange(batch.dense_BS.shape[0])[:, None] % 2 == 0).float().expand(-1, 2)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.binary_cross_entropy_with_logits(network(batch).logit_BT, labels).backward()
        optimizer.step()

    return step


def _sections(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Gives the sections of a report from what the JSON file holds."""
    return (
        head(
            "What presets cost",
            facts,
            "One made-up request of C candidates, each with the same L behaviors, tables of 16 dimensions, two",
            "targets, networks untrained and otherwise at their defaults (`scripts/bench/cost/world.py`). *MFLOPs*:",
            "matrix products and attention in its plain form, by torch's counter. *activations*: what the forward pass",
            "keeps for the backward pass, named parameters among it. *train*: forward, backward and an AdamW step over",
            "dense tables of 20,221 rows. Medians of up to five calls, one thread. A preset with a selection reads",
            "fewer than L behaviors. A dash: not measured, a million pairs at once are no training step.",
            torch=facts["torch"],
        ),
        rows_table(facts["rows"], _NAMES),
        "## Candidates with lists of their own",
        paragraph(
            "As candidates of a real request have them: *own* behaviors of each candidate, drawn from the L of the",
            "union. Nothing of a list can be shared then but what depends on a behavior alone.",
        ),
        rows_table(facts["own_lists"], _NAMES),
        "## LONGER: merge against the vanilla transformer",
        paragraph(
            "FLOPs of two layers, one candidate, G = 4 against G = 1, once with all tokens as queries of both layers",
            "and once with the newest 100 merged ones (400 rows of the vanilla one). The paper (arXiv 2505.04421) says",
            "-42.8 % for its sizes; a merged token is G times as wide, and its projections G * G times as large.",
        ),
        rows_table(facts["longer_merge"]),
        "## LONGER: a longer history with and without the cached user side",
        paragraph(
            "Throughput of 100 candidates of one user against that at the shortest history. The paper says -40 %",
            "without and -6.8 % with the cache, for its growth of the history.",
        ),
        rows_table(facts["longer_cache"]),
        "## Linear against quadratic attention",
        paragraph("Two layers of two heads over one list, one candidate; *MiB* is what is kept for the backward pass."),
        rows_table(facts["linear_against_quadratic"]),
    )
