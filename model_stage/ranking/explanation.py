"""The behaviors retrieved for one candidate, for people: by name, with what each weighs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model_stage.types import ExplainedBehavior

if TYPE_CHECKING:
    from torch import Tensor

    from store.retrieval import SearchResult


def explained_behaviors(found: SearchResult, candidate: int, weight_MT: Tensor) -> tuple[ExplainedBehavior, ...]:
    """Gives the behaviors of one candidate, oldest first.

    Args:
        found: An answer of search with names.
        candidate: Its position.
        weight_MT: Attention of every pair of the answer, per target to be shown. float32.
    """
    assert found.names is not None
    side_info = found.readable_fields()
    first, last = int(found.offsets[candidate]), int(found.offsets[candidate + 1])
    behaviors, vocabulary = found.behaviors, found.vocabulary
    return tuple(
        ExplainedBehavior(
            item=int(behaviors.item[row]),
            item_name=found.names.behavior_items[row],
            category=int(behaviors.category[row]),
            category_name=found.names.behavior_categories[row],
            timestamp_ms=int(behaviors.timestamp_ms[row]),
            domain=vocabulary.domains[behaviors.domain[row]],
            action=vocabulary.actions[behaviors.action[row]],
            scene=vocabulary.scenes[behaviors.scene[row]],
            side_info={name: values[row] for name, values in side_info.items()},
            match_level=int(found.match_level[pair]),
            source=int(found.source[pair]),
            score=float(found.score[pair]),
            attention=tuple(weight_MT[pair].tolist()),
        )
        for pair, row in enumerate(found.index[first:last].tolist(), start=first)
    )
