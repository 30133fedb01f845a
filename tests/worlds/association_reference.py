"""The report's mathematics again in plain loops: what tests hold the fast code to."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from search_stage.study.groups import NO_GROUP, NUM_BUCKETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Row = tuple[int, bool, "Sequence[int]"]
"""One training row: the candidate's group, the label, the groups of the history, oldest first."""


def cell_information(rows: Iterable[Row]) -> dict[tuple[int, int, int], tuple[int, float]]:
    """Gives, by (candidate group, position bucket, behavior group), the behaviors in that cell and their worth."""
    total: Counter[tuple[int, int]] = Counter()
    positive: Counter[tuple[int, int]] = Counter()
    in_cell: Counter[tuple[int, int, int]] = Counter()
    positive_in_cell: Counter[tuple[int, int, int]] = Counter()
    for candidate, label, history in rows:
        if candidate == NO_GROUP:
            continue
        for position, group in enumerate(reversed(history)):
            bucket = min(int(math.log2(position + 1)), NUM_BUCKETS - 1)
            total[candidate, bucket] += 1
            positive[candidate, bucket] += label
            if group != NO_GROUP:
                in_cell[candidate, bucket, group] += 1
                positive_in_cell[candidate, bucket, group] += label
    worth = {}
    for cell, count in in_cell.items():
        all_count, all_positives = total[cell[:2]], positive[cell[:2]]
        information = _information(count, positive_in_cell[cell], all_count, all_positives)
        speaks_against = positive_in_cell[cell] / count < all_positives / all_count
        worth[cell] = count, -information if speaks_against else information
    return worth


def _information(count: int, positives: int, all_count: int, all_positives: int) -> float:
    joint = {
        (True, True): positives,
        (True, False): count - positives,
        (False, True): all_positives - positives,
        (False, False): all_count - count - all_positives + positives,
    }
    information = 0.0
    for (x, y), both in joint.items():
        if both:
            p_x = (count if x else all_count - count) / all_count
            p_y = (all_positives if y else all_count - all_positives) / all_count
            information += both / all_count * math.log(both / all_count / (p_x * p_y))
    return information


def ndcg(gains: Sequence[float], cut: int) -> float:
    """Gives DCG at `cut` of gains in the order they were ranked, over the best there could be."""
    best = sum(gain / math.log2(place + 2) for place, gain in enumerate(sorted(gains, reverse=True)[:cut]))
    return sum(gain / math.log2(place + 2) for place, gain in enumerate(gains[:cut])) / best
