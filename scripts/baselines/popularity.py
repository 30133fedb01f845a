"""Popularity: the ad answered most often so far first, equal ads by the popularity of their category."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scripts.baselines.features import NAMES

if TYPE_CHECKING:
    from scripts.baselines.data import F64


def score(numbers: F64) -> F64:
    """Gives a score that is no probability, higher = more popular. (R,).

    Args:
        numbers: The fourteen numbers. (R, 14)
    """
    item, category = (numbers[:, NAMES.index(name)] for name in ("item_popularity", "category_popularity"))
    below_one: F64 = category / (category.max(initial=0.0) + 1.0)
    return item + below_one
