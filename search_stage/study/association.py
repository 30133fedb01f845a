"""How much a behavior says about a candidate: the mutual information of the category at its position with the label.

Source: DARE (arXiv 2410.02604), the measure of its search quality. For candidates of category a, a position p counted
from the newest and a category b: X = "the behavior at p is of b", Y = the label; the worth of such a behavior is the
mutual information I(X; Y) over the training rows of a, in nats. Our data are thinner than the paper's, so the counts
of the positions of one bucket (powers of two) are pooled: a row counts once for each position it has. Information is as
high for what speaks against a candidate as for what speaks for it, so the sign is kept with it.
Tests count it again in plain loops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from search_stage.study.groups import NO_GROUP, NUM_BUCKETS, GroupHistory, bucket_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from search_stage.study.groups import CategoryGroups
    from search_stage.study.sample import LabelledRows
    from store.reading.snapshot import Snapshot
    from store.types import F64, I64, Bool


MIN_EXPECTED = 10
"""Counts that independence would give each of the four answers (X, Y) of a cell, for the cell to be dense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellCounts:
    """Behaviors of training rows by cell, as columns of length M, keys ascending."""

    key: I64
    """(candidate group * NUM_BUCKETS + bucket) * G + behavior group. (M,)"""
    behaviors: I64
    """Behaviors in the cell: at a position of the bucket, of the group, before a candidate of the group. (M,)"""
    positives: I64
    """Of these the ones in rows with a positive label. (M,)"""
    all_behaviors: I64
    """Behaviors of any group before such candidates at such positions. (M,)"""
    all_positives: I64
    """(M,)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Association:
    """The worth of every dense cell."""

    num_groups: int
    key: I64
    """As in `CellCounts`, of dense cells only. (D,)"""
    worth: F64
    """Mutual information in nats; negative where the cell speaks against the candidate. (D,)"""

    def worth_of(self, candidate_group: int, position: I64, behavior_group: I64) -> F64:
        """Gives the worth of some behaviors for one candidate; NaN where the cell is not dense.

        Args:
            candidate_group: Group of the candidate, or `NO_GROUP`.
            position: Counted from the newest, 0. (N,)
            behavior_group: (N,)
        """
        worth = np.full(len(position), np.nan)
        if candidate_group == NO_GROUP or not len(self.key):
            return worth
        key = (candidate_group * NUM_BUCKETS + bucket_of(position)) * self.num_groups + behavior_group
        at = np.minimum(np.searchsorted(self.key, key), len(self.key) - 1)
        found = (self.key[at] == key) & (behavior_group != NO_GROUP)
        worth[found] = self.worth[at[found]]
        return worth


def learn_association(
    rows: LabelledRows, snapshot: Snapshot, groups: CategoryGroups, progress: Callable[[float], None]
) -> Association:
    """Counts the training rows and measures every dense cell.

    Args:
        rows: Training rows.
        snapshot: The store with the users' histories.
        groups: The categories.
        progress: Called with the share that is done.
    """
    counts = count_cells(rows, snapshot, groups, progress)
    dense = np.flatnonzero(is_dense(counts))
    worth = mutual_information(counts.behaviors, counts.positives, counts.all_behaviors, counts.all_positives)
    against = counts.positives * counts.all_behaviors < counts.behaviors * counts.all_positives
    return Association(num_groups=len(groups), key=counts.key[dense], worth=np.where(against, -worth, worth)[dense])


def is_dense(counts: CellCounts) -> Bool:
    """Says which cells have enough counts to be measured. (M,)."""
    rarer_x = np.minimum(counts.behaviors, counts.all_behaviors - counts.behaviors)
    rarer_y = np.minimum(counts.all_positives, counts.all_behaviors - counts.all_positives)
    dense: Bool = rarer_x * rarer_y >= MIN_EXPECTED * counts.all_behaviors
    return dense


def count_cells(
    rows: LabelledRows, snapshot: Snapshot, groups: CategoryGroups, progress: Callable[[float], None]
) -> CellCounts:
    """Counts the training rows' behaviors by cell; see `learn_association`."""
    num_groups = len(groups)
    totals = np.zeros((2, num_groups, NUM_BUCKETS), np.int64)
    keys: list[I64] = [np.empty(0, np.int64)]
    weights: list[I64] = [np.empty((2, 0), np.int64)]
    user, history, done = -1, None, 0
    for request in rows.requests():
        done += len(request)
        if history is None or int(request.user[0]) != user:
            user = int(request.user[0])
            history = GroupHistory.of(snapshot, user, groups)
            progress(done / len(rows))
        group = groups.of_items(request.item)
        known = group != NO_GROUP
        candidate, at = np.unique(group[known], return_inverse=True)
        labels = np.stack((np.ones(len(at)), request.label[known]))
        count = np.stack([np.bincount(at, label, len(candidate)) for label in labels]).astype(np.int64)
        cell, size, by_bucket = history.cells(int(request.as_of_ms[0]), num_groups)
        totals[:, candidate] += count[:, :, None] * by_bucket
        keys.append((candidate[:, None] * (NUM_BUCKETS * num_groups) + cell).ravel())
        weights.append((count[:, :, None] * size).reshape(2, -1))
    key, at = np.unique(np.concatenate(keys), return_inverse=True)
    behaviors, positives = (np.bincount(at, weight, len(key)) for weight in np.concatenate(weights, axis=1))
    all_behaviors, all_positives = totals.reshape(2, -1)[:, key // max(num_groups, 1)]
    return CellCounts(
        key=key,
        behaviors=behaviors.astype(np.int64),
        positives=positives.astype(np.int64),
        all_behaviors=all_behaviors,
        all_positives=all_positives,
    )


def mutual_information(count: I64, positives: I64, all_count: I64, all_positives: I64) -> F64:
    """Gives I(X; Y) of two yes-no questions from counts, in nats.

    Args:
        count: Where X is yes. (M,)
        positives: Where both are yes. (M,)
        all_count: All of them, at least 1. (M,)
        all_positives: Where Y is yes. (M,)
    """
    information = np.zeros(len(count))
    for has_x, both in ((count, positives), (all_count - count, all_positives - positives)):
        for has_y, joint in ((all_positives, both), (all_count - all_positives, has_x - both)):
            some = np.flatnonzero(joint)
            share = joint[some] / all_count[some]
            independent = has_x[some] / all_count[some] * (has_y[some] / all_count[some])
            information[some] += share * np.log(share / independent)
    return np.maximum(information, 0)
