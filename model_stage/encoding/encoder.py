"""From a request and what was retrieved for it to the arrays the network reads; the same code trains and serves.

Legend: U behaviors of the union, M pairs, C candidates of one request; B candidates of a batch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from model_stage.encoding.batch import EncodedRequest
from model_stage.encoding.values import resolve_lists, resolve_values
from store.retrieval import NO_DECAY
from store.types import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from model_stage.config.schema import AnyField, Part, Schema
    from model_stage.encoding.vocabulary import Vocabularies
    from model_stage.types import RankRequest
    from store.fields import FieldColumn, IdLists, ValueColumn
    from store.retrieval import BehaviorColumns, MatchStatistics, SearchResult
    from store.types import F32, I32, I64, U64, AnyArray, Vocabulary

_NEVER_DAYS = 730.0
"""Age that stands for "no match": beyond any span we have data for, so that older and never meet smoothly."""
_LEAST_GAP_DAYS = 1 / 24
"""Below it a mean gap says nothing of when the next match is due: those are matches of one visit."""


class RequestEncoder:
    """Turns requests into arrays, after a schema and vocabularies. Thread-safe; changes nothing."""

    def __init__(self, schema: Schema, vocabularies: Vocabularies) -> None:
        self._schema = schema
        self._vocabularies = vocabularies
        parts: tuple[Part, ...] = ("candidate", "user", "context")
        self._embedded = [field for part in parts for field in schema.embedded(part)]
        self._multi_valued = [field for part in parts for field in schema.multi_valued(part)]
        self._numeric = [field for part in parts for field in schema.numeric(part)]

    def unknown_categories(self, encoded: EncodedRequest, found: SearchResult) -> U64:
        """Gives the categories of behaviors and candidates that the tree does not know, ascending.

        Args:
            encoded: What `encode` gave: mostly all have a row, and there is nothing to look up.
            found: What it was made of.
        """
        categories = np.concatenate(
            (
                found.behaviors.category[encoded.behavior_node == 0],
                found.candidate_category[encoded.candidate_node == 0],
            )
        )
        return self.unknown_among(categories)

    def unknown_among(self, categories: U64) -> U64:
        """Gives those of some categories that the tree does not know, ascending."""
        return self._vocabularies.tree.categories.unknown(categories) if len(categories) else categories

    def with_categories(self, ids: U64, above: IdLists) -> RequestEncoder:
        """Gives an encoder that takes some more categories for their nearest ancestor which the tree knows.

        Args:
            ids: Categories; those that the tree knows already stay what they are. (N,), ascending
            above: The categories above each one, the nearest first. N lists.
        """
        tree = self._vocabularies.tree
        new = np.isin(ids, tree.categories.unknown(ids))
        more = tree.categories.with_more(ids[new], tree.nearest_rows(above)[new])
        return RequestEncoder(self._schema, replace(self._vocabularies, tree=replace(tree, categories=more)))

    @property
    def side_info(self) -> tuple[str, ...]:
        """Side-info fields of behaviors that the schema names."""
        return self._schema.side_info

    @property
    def dense_names(self) -> list[str]:
        """The columns of `EncodedRequest.dense`, in order."""
        names = [field.name for field in self._numeric]
        within = [f"within{days:g}d" for days in self._schema.match_within_days]
        measures = [name for each in self._schema.match_measures for name in (within if each == "within" else [each])]
        for measure in measures:
            for domain, action in self._vocabularies.streams:
                names += [f"{measure}:{domain}/{action}:level{level}" for level in range(self._schema.match_levels)]
        for measure in measures:
            names += [f"total_{measure}:{domain}/{action}" for domain, action in self._vocabularies.streams]
        for days in self._schema.match_half_life_days:
            decay = "no decay" if days is None else f"{days:g}d"
            names += [f"similarity:{domain}/{action}:{decay}" for domain, action in self._vocabularies.streams]
        return names

    def encode(self, request: RankRequest, found: SearchResult) -> EncodedRequest:
        """Encodes one request with what was retrieved for it."""
        behaviors, vocabularies = found.behaviors, self._vocabularies
        behavior_node, behavior_side = self.behavior_rows(behaviors, found.vocabulary, found.behavior_fields)
        candidates = request.candidates
        count = len(candidates)
        categorical = [
            vocabularies.rows_of(f, resolve_values(f, *_columns_of(f, request, found), count)) for f in self._embedded
        ]
        lists = [(f, resolve_lists(*_columns_of(f, request, found), count)) for f in self._multi_valued]
        return EncodedRequest(
            behavior_node=behavior_node,
            behavior_side=behavior_side,
            interval_ms=request.as_of_ms - behaviors.timestamp_ms,
            pair_behavior=found.index,
            match_level=found.match_level,
            source=found.source,
            offsets=found.offsets,
            same_as=found.same_as,
            num_newest=found.num_newest,
            candidate_node=vocabularies.tree.rows(candidates.item, found.candidate_category).astype(np.int32),
            categorical=_columns(categorical, count, np.int32),
            multi_valued=tuple(vocabularies.list_rows(field, values) for field, values in lists),
            dense=self._dense(request, found),
        )

    def behavior_rows(
        self, behaviors: BehaviorColumns, names: Vocabulary, fields: Mapping[str, ValueColumn]
    ) -> tuple[I32, I32]:
        """Gives the rows of behaviors in the tree (U,), and those of the schema's behavior fields (U, fields).

        Args:
            behaviors: The behaviors.
            names: What their codes of domain, action and scene stand for.
            fields: Their side-info, as far as it is known, (U,) each.
        """
        side = [self._side_rows(name, behaviors, names, fields) for name in self._schema.behavior_fields]
        node = self._vocabularies.tree.rows(behaviors.item, behaviors.category).astype(np.int32)
        return node, _columns(side, len(behaviors), np.int32)

    def _side_rows(
        self, name: str, behaviors: BehaviorColumns, names: Vocabulary, fields: Mapping[str, ValueColumn]
    ) -> I64:
        """Gives the row of each behavior in the table of one of the schema's behavior fields. (U,)."""
        field = self._schema.behavior_field(name)
        if field is not None:
            return self._vocabularies.rows_of(field, resolve_values(field, fields.get(name), None, len(behaviors)))
        codes: AnyArray = getattr(behaviors, name)
        known = getattr(names, f"{name}s")
        rows = self._vocabularies.behavior_rows(name, known)
        return rows[codes] if len(known) else np.zeros(len(behaviors), np.int64)

    def _dense(self, request: RankRequest, found: SearchResult) -> F32:
        columns: list[AnyArray] = []
        count = len(request.candidates)
        for field in self._numeric:
            values = resolve_values(field, *_columns_of(field, request, found), count)
            columns.append(np.log1p(np.maximum(values, 0)) if field.transform == "log1p" else values)
        s, streams = found.statistics, self._vocabularies.streams
        position = {stream: at for at, stream in enumerate(s.streams)}
        at = np.array([position.get(stream, -1) for stream in streams], np.int64)
        each = self._matches(s.count, s.age_ms, s.oldest_age_ms, s.within, s.within_ms, at, self._schema.match_levels)
        whole = s.total_count[None, None], s.total_age_ms[None, None], s.total_oldest_age_ms[None, None]
        total = self._matches(*whole, s.total_within[None, None], s.within_ms, at, 1)
        return np.concatenate(
            (
                _columns(columns, count, np.float32),
                *each,
                *(column.repeat(count, axis=0) for column in total),
                *self._similarities(s, at),
            ),
            axis=1,
        )

    def _matches(
        self, count: I32, age_ms: I64, oldest_age_ms: I64, within: I32, within_ms: I64, streams: I64, levels: int
    ) -> list[F32]:
        """Gives the measures that the schema wants, each for all levels of a stream, stream by stream.

        Args:
            count: See `MatchStatistics`. (C, levels of the store, streams of the store)
            age_ms: As `count`.
            oldest_age_ms: As `count`.
            within: One more axis than `count`.
            within_ms: See `MatchStatistics`. (E,)
            streams: See `_by_stream`.
            levels: See `_by_stream`.
        """
        wanted = self._schema.match_measures
        number = _by_stream(count, streams, levels, 0)
        newest = _days(_by_stream(age_ms, streams, levels, -1))
        made: dict[str, list[AnyArray]] = {"count": [number], "age": [newest]}
        if not made.keys() >= {*wanted}:
            oldest = _days(_by_stream(oldest_age_ms, streams, levels, -1))
            # Of fewer than two matches nothing is known of a gap.
            gap = np.where(number > 1, (oldest - newest) / np.maximum(number - 1, 1), _NEVER_DAYS)
            places = {age: at for at, age in enumerate(within_ms.tolist())}
            ages = [places.get(round(days * DAY_MS), -1) for days in self._schema.match_within_days]
            young = [within[..., at] if at >= 0 else np.full(count.shape, np.nan) for at in ages]
            made |= {"oldest": [oldest], "gap": [gap], "due": [newest / np.maximum(gap, _LEAST_GAP_DAYS)]}
            made["within"] = [_by_stream(values, streams, levels, 0) for values in young]
        return [np.log1p(values).astype(np.float32) for measure in wanted for values in made[measure]]

    def _similarities(self, statistics: MatchStatistics, streams: I64) -> list[F32]:
        """Gives the columns of each half-life; NaN where search does not answer it, or has no such stream."""
        answered = {half_life_ms: at for at, half_life_ms in enumerate(statistics.half_life_ms.tolist())}
        columns = []
        for days in self._schema.match_half_life_days:
            at = answered.get(NO_DECAY if days is None else round(days * DAY_MS), -1)
            column = np.full((len(statistics.similarity), len(streams)), np.nan, np.float32)
            if at >= 0:
                column[:, streams >= 0] = statistics.similarity[:, streams[streams >= 0], at]
            columns.append(column)
        return columns


def _columns_of(
    field: AnyField, request: RankRequest, found: SearchResult
) -> tuple[FieldColumn | None, FieldColumn | None]:
    """Gives what the request says of a field, and what the store knows of it."""
    match field.part:
        case "candidate":
            return request.candidate_fields.get(field.name), found.candidate_fields.get(field.name)
        case "user":
            return request.user_fields.get(field.name), found.user_fields.get(field.name)
        case "context" | "behavior":
            return request.context_fields.get(field.name), None


def _columns(columns: Sequence[AnyArray], length: int, dtype: type) -> AnyArray:
    return np.stack(columns, axis=1).astype(dtype) if columns else np.empty((length, 0), dtype)


def _by_stream(values: AnyArray, streams: I64, levels: int, absent: int) -> AnyArray:
    """Gives a column for each stream and level of it.

    Args:
        values: (C, levels of the store, streams of the store)
        streams: Wanted, by their place in the store; -1 = it has no such stream. (S,)
        levels: Wanted of each.
        absent: What stands for a stream or level that the store does not have.

    Returns:
        (C, S * levels)
    """
    out = np.full((len(values), len(streams), levels), absent, values.dtype)
    (known,) = np.nonzero(streams >= 0)
    deepest = min(levels, values.shape[1])
    out[:, known, :deepest] = values[:, :deepest, streams[known]].transpose(0, 2, 1)
    return out.reshape(len(values), -1)


def _days(age_ms: I64) -> AnyArray:
    return np.where(age_ms < 0, _NEVER_DAYS, age_ms / DAY_MS)
