"""What two blocks are said to save: LONGER's merge and its cache, and linear attention against quadratic."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from model_stage.blocks.linear_attention import LinearAttention
from model_stage.blocks.longer import Longer, LongerConfig
from model_stage.blocks.sasrec import TargetDecoupledSASRec
from model_stage.blocks.sequence import ListInput
from scripts.bench.cost.measure import activation_mib, count_flops, median_ms
from scripts.bench.cost.world import WIDTH

if TYPE_CHECKING:
    from collections.abc import Sequence

MERGE = 4
_CANDIDATES = 100
_RECENT = 100
_LAYERS, _HEADS = 2, 2


def one_list(length: int, num_candidates: int) -> tuple[ListInput, torch.Tensor]:
    """Gives a user's list with candidates that read it, and the user's vector."""
    generator = torch.Generator().manual_seed(length)

    def draw(count: int) -> torch.Tensor:
        return torch.randn(count, WIDTH, generator=generator)

    lists = ListInput(
        values_ND=draw(length),
        offsets=torch.tensor([0, length]),
        candidate_BD=draw(num_candidates),
        list_B=torch.zeros(num_candidates, dtype=torch.int64),
        interval_ms_N=torch.arange(length, 0, -1) * 600_000,
    )
    return lists, draw(1)


def _longer(merge: int, recent: int) -> Longer:
    config = LongerConfig(kind="longer", scope="list", merge=merge, recent=recent, layers=_LAYERS - 1, heads=_HEADS)
    return Longer(WIDTH, config).eval()


def longer_merge(lengths: Sequence[int]) -> list[dict[str, Any]]:
    """Gives FLOPs of LONGER with a merge of 4 over those of the vanilla transformer (no merge), one candidate.

    Once with every token as a query, and once with the newest 100 merged ones, as many rows of the vanilla one.
    """
    rows = []
    for length in lengths:
        lists, user_LD = one_list(length, 1)
        row: dict[str, Any] = {"L": length}
        for name, merged, vanilla in (("all", length, length), (f"newest {_RECENT}", _RECENT, _RECENT * MERGE)):
            blocks = (_longer(MERGE, max(merged, 1)), _longer(1, vanilla))
            flops = [count_flops(partial(block, lists, user_LD)) for block in blocks]
            row |= {f"merged_flops, queries: {name}": flops[0], f"vanilla_flops, queries: {name}": flops[1]}
            row[f"change, queries: {name}"] = flops[0] / flops[1] - 1
        rows.append(row)
    return rows


def longer_cache(lengths: Sequence[int]) -> list[dict[str, Any]]:
    """Gives requests a second of LONGER with and without the cached user side, and what a longer history costs."""
    rows: list[dict[str, Any]] = []
    block = _longer(MERGE, _RECENT)
    for length in lengths:
        lists, user_LD = one_list(length, _CANDIDATES)
        with torch.inference_mode():
            cache = block.encode_user(lists.values_ND, lists.offsets, lists.interval_ms_N, user_LD)
            whole_ms = median_ms(partial(block, lists, user_LD))
            cached_ms = median_ms(partial(block.score, cache, lists.candidate_BD, lists.list_B))
        first = rows[0] if rows else {"whole_ms": whole_ms, "cached_ms": cached_ms}
        rows.append(
            {
                "L": length,
                "C": _CANDIDATES,
                "whole_ms": whole_ms,
                "cached_ms": cached_ms,
                "whole_throughput_change": first["whole_ms"] / whole_ms - 1,
                "cached_throughput_change": first["cached_ms"] / cached_ms - 1,
            }
        )
    return rows


def linear_against_quadratic(lengths: Sequence[int]) -> list[dict[str, Any]]:
    """Gives time and kept activations of linear and of softmax attention of the same layers, one candidate."""
    linear = LinearAttention((), WIDTH, _HEADS, _LAYERS).eval()
    quadratic = TargetDecoupledSASRec((), ((),), WIDTH, _HEADS, _LAYERS).eval()
    rows = []
    for length in lengths:
        lists, _ = one_list(length, 1)
        calls = {"linear": partial(linear, lists), "quadratic": partial(quadratic, lists, ((),))}
        row: dict[str, Any] = {"L": length}
        for name, call in calls.items():
            with torch.inference_mode():
                row[f"{name}_ms"] = median_ms(call)
            row[f"{name}_mib"] = activation_mib(call)
            row[f"{name}_flops"] = count_flops(call)
        rows.append(row)
    return rows
