"""The requests that the report is made of: logged impressions, or else what users did, asked as a question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from search_stage.study.errors import SampleError
from store.dataset.impressions import read_impressions
from store.dataset.readers import find_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from store.dataset.impressions import Impressions
    from store.reading.snapshot import Snapshot
    from store.types import I64, U64, Bool

SPLITS_FILE = "splits.json"
TEST_SHARE = 0.2
"""Share of the impressions, the latest, that are tested on where the data set does not say which."""
USERS = 20_000
"""Users whose events stand in for impressions, at most."""
EVENTS_PER_USER = 20
"""Earlier events of each of them to learn from, drawn at random, at most."""
TRAIN_NEGATIVES = 4
TEST_NEGATIVES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledRows:
    """Candidates that were answered yes or no, as columns; rows of equal user and time are one request."""

    user: U64
    """(N,)"""
    as_of_ms: I64
    """(N,)"""
    item: U64
    """The candidate. (N,)"""
    label: Bool
    """(N,)"""

    def __len__(self) -> int:
        return len(self.user)

    def select(self, rows: I64) -> LabelledRows:
        """Gives some rows, in the order asked."""
        return LabelledRows(
            user=self.user[rows], as_of_ms=self.as_of_ms[rows], item=self.item[rows], label=self.label[rows]
        )

    def requests(self) -> Iterator[LabelledRows]:
        """Gives the rows of each request, users ascending, a user's requests by time."""
        order = np.lexsort((self.as_of_ms, self.user))
        changes = (np.diff(self.user[order]) != 0) | (np.diff(self.as_of_ms[order]) != 0)
        for rows in np.split(order, np.flatnonzero(changes) + 1) if len(order) else ():
            yield self.select(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What is learned from and what is measured on; every test request is later than what was learned of that user."""

    train: LabelledRows
    test: LabelledRows
    target: str
    """What the label means."""
    origin: str
    """How the rows came about, one sentence for the report."""


class _Splits(BaseModel):
    """The part of `splits.json` that is needed; docs/datasets.md says what else it holds."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    test_from_ms: int
    train_from_ms: int = 0


def draw_sample(folder: Path, snapshot: Snapshot, target: str | None, seed: int) -> Sample:
    """Takes the impressions of a dataset folder, or makes requests of the store's histories where it has none.

    Args:
        folder: Dataset folder in the input contract.
        snapshot: The store that was made of it.
        target: Whose labels; None = the target with the most positives.
        seed: Of what is drawn at random.

    Raises:
        SampleError: The target has no labels, or there is nothing to learn from or to test on.
        InputError: A row of the impressions breaks the contract.
    """
    if find_files(folder, "impressions", many=True):
        sample = _of_impressions(read_impressions(folder), folder, target)
    else:
        if target is not None:
            raise SampleError(f"target: {folder} has no impressions, hence no labels of {target!r}; leave it out")
        sample = _of_histories(snapshot, np.random.default_rng(seed))
    for name, rows in (("learn from", sample.train), ("test on", sample.test)):
        if not len(rows):
            raise SampleError(f"{folder}: there is nothing to {name}")
    return sample


def _of_impressions(table: Impressions, folder: Path, target: str | None) -> Sample:
    positives = {name: int(np.nansum(table.label(name))) for name in table.targets}
    if target is None and positives:
        target = max(positives, key=positives.__getitem__)
    if target is None or target not in positives:
        raise SampleError(f"target: the impressions of {folder} have labels of {sorted(positives)}, not of {target!r}")
    known = ~np.isnan(table.label(target))
    time = table.timestamp_ms
    splits = _read_splits(folder / SPLITS_FILE)
    if splits is None:
        splits = _Splits(test_from_ms=int(np.quantile(time, 1 - TEST_SHARE)))
    rows = LabelledRows(user=table.user, as_of_ms=time, item=table.item, label=table.label(target) == 1)
    is_test = time >= splits.test_from_ms
    return Sample(
        train=rows.select(np.flatnonzero(known & ~is_test & (time >= splits.train_from_ms))),
        test=rows.select(np.flatnonzero(known & is_test)),
        target=target,
        origin=f"Logged impressions, label `{target}`: learned from those before the test split, measured on it.",
    )


def _read_splits(path: Path) -> _Splits | None:
    if not path.is_file():
        return None
    try:
        return _Splits.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise SampleError(f"{path}: {error.errors()[0]['msg']}") from error


def _of_histories(snapshot: Snapshot, generator: np.random.Generator) -> Sample:
    users = generator.permutation(np.fromiter(snapshot.user_ids(), np.uint64))
    last: list[tuple[int, int, int]] = []
    earlier: list[tuple[int, int, int]] = []
    for user in users[:USERS].tolist():
        columns = snapshot.user(user).columns
        item, time = columns.item[columns.order].astype(np.uint64), columns.timestamp_ms[columns.order]
        if time[-1] == time[0]:
            continue
        last.append((user, int(time[-1]), int(item[-1])))
        asked = np.flatnonzero((time > time[0]) & (time < time[-1]))
        drawn = generator.choice(asked, min(EVENTS_PER_USER, len(asked)), replace=False)
        earlier += [(user, int(time[at]), int(item[at])) for at in drawn]
    return Sample(
        train=_with_negatives(earlier, TRAIN_NEGATIVES, generator),
        test=_with_negatives(last, TEST_NEGATIVES, generator),
        target="next event",
        origin=(
            f"No impressions. Of {len(last):,} users the last event, at its own time, is the positive candidate, "
            f"beside {TEST_NEGATIVES} items of other users' last events; learned from up to {EVENTS_PER_USER} of "
            f"their earlier events, each beside {TRAIN_NEGATIVES} items of other such events. Items so drawn are as "
            "popular as the positive ones: popularity alone tells nothing."
        ),
    )


def _with_negatives(positives: list[tuple[int, int, int]], count: int, generator: np.random.Generator) -> LabelledRows:
    """Puts beside each (user, time, item) the items of `count` others drawn at random; equal ones are left out."""
    table = np.array(positives, np.uint64).reshape(-1, 3)
    user, time, item = table.T
    drawn = item[generator.integers(max(len(item), 1), size=(len(item), count))] if len(item) else item[:, None]
    items = np.concatenate((item[:, None], drawn), axis=1)
    label = np.zeros(items.shape, np.bool_)
    label[:, 0] = True
    kept = label | (items != item[:, None])
    width = items.shape[1]
    return LabelledRows(
        user=np.repeat(user, width)[kept.ravel()],
        as_of_ms=np.repeat(time.astype(np.int64), width)[kept.ravel()],
        item=items[kept],
        label=label[kept],
    )
