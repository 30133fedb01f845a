"""Served requests as Arrow tables: one row a request for replay, and one row a candidate, which training reads.

| table | file | holds |
|---|---|---|
| requests | `requests-*.parquet` | request and answer of search to the bit, versions, sequence number, probabilities |
| impressions | `impressions-*.parquet` | as docs/data.md: user, item, time, fields of the schema as they were read |

What the input contract does not name is called `served_...` among the impressions, so that no field is taken for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from model_stage.encoding.values import resolve_lists, resolve_values
from model_stage.serving import convert
from serving.wire import search as wire
from store.fields import ID, NUMBER
from store.types import NO_ID

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from model_stage.bundle import Bundle
    from model_stage.config.schema import AnyField
    from model_stage.serving.served_log.record import Served
    from store.fields import FieldColumn

FORMAT = b"1"
FORMAT_KEY = b"served_log_format"
"""Key of a file's metadata that says which version of these columns it has."""

REQUESTS = pa.schema(
    [
        ("request_id", pa.string()),
        ("served_ms", pa.int64()),
        ("experiment", pa.string()),
        ("user", pa.uint64()),
        ("as_of_ms", pa.int64()),
        ("bundle", pa.string()),
        ("store_generation", pa.string()),
        ("index_generation", pa.string()),
        ("index_model", pa.string()),
        ("delta_sequence", pa.int64()),
        ("degraded_reason", pa.string()),
        ("ancestors_reason", pa.string()),
        ("num_behaviors", pa.uint32()),
        ("newest", pa.uint32()),
        ("targets", pa.list_(pa.string())),
        ("items", pa.list_(pa.uint64())),
        ("num_retrieved", pa.list_(pa.uint32())),
        ("probability", pa.list_(pa.float32())),
        ("request", pa.binary()),
        ("found", pa.binary()),
    ],
    metadata={FORMAT_KEY: FORMAT},
)
"""`request` is a `lookback.ranking.v1.RankRequest`; `found` a `lookback.search.v1.SearchResponse`, empty when the
answer was degraded; `probability` (C, T) row-major; `newest` how many of the newest behaviors search was asked for."""


def request_columns(records: Sequence[Served]) -> pa.Table:
    """Gives the requests, a row each."""
    rows = [_request_row(record) for record in records]
    columns = [pa.array([row[field.name] for row in rows], field.type) for field in REQUESTS]
    return pa.Table.from_arrays(columns, schema=REQUESTS)


def _request_row(record: Served) -> dict[str, Any]:
    request, result, found = record.request, record.answer.result, record.answer.found
    versions = result.versions
    return {
        "request_id": record.request_id,
        "served_ms": record.served_ms,
        "experiment": request.experiment,
        "user": request.user,
        "as_of_ms": request.as_of_ms,
        "bundle": versions.bundle,
        "store_generation": versions.store_generation,
        "index_generation": versions.index_generation,
        "index_model": versions.index_model,
        "delta_sequence": versions.delta_sequence,
        "degraded_reason": result.degraded_reason,
        "ancestors_reason": result.ancestors_reason,
        "num_behaviors": result.num_behaviors,
        "newest": record.bundle.network_config.preset.newest_read,
        "targets": result.targets,
        "items": request.candidates.item,
        "num_retrieved": result.num_retrieved,
        "probability": result.probability.ravel(),
        "request": convert.request_to_proto(request, record.request_id).SerializeToString(),
        "found": b"" if result.degraded else wire.result_to_proto(found).SerializeToString(),
    }


def impressions_schema(bundle: Bundle) -> pa.Schema:
    """Gives the columns of the impressions that a bundle served."""
    fields = [(field.name, _arrow_type(field)) for field in _fields_of(bundle)]
    scores = [(f"served_probability_{target}", pa.float32()) for target in bundle.targets.names]
    return pa.schema([*_KEYS, *fields, *_ABOUT, *scores], metadata={FORMAT_KEY: FORMAT})


_KEYS = (("user", pa.uint64()), ("item", pa.uint64()), ("timestamp_ms", pa.int64()))
_ABOUT = (
    ("served_request_id", pa.string()),
    ("served_position", pa.int32()),
    ("served_ms", pa.int64()),
    ("served_experiment", pa.string()),
    ("served_bundle", pa.string()),
    ("served_store", pa.string()),
    ("served_index", pa.string()),
    ("served_delta_sequence", pa.int64()),
    ("served_degraded", pa.bool_()),
    ("served_num_retrieved", pa.uint32()),
)


def impression_columns(records: Sequence[Served]) -> pa.Table:
    """Gives the candidates, a row each; those without an id are left out, for they can be no impression.

    Args:
        records: All served by bundles of the same `impressions_schema`.
    """
    schema = impressions_schema(records[0].bundle)
    return pa.concat_tables([_impressions_of(record, schema) for record in records])


def _impressions_of(record: Served, schema: pa.Schema) -> pa.Table:
    request, result = record.request, record.answer.result
    count = record.num_rows
    versions = result.versions
    columns: dict[str, Any] = {
        "user": request.user,
        "item": request.candidates.item,
        "timestamp_ms": request.as_of_ms,
        "served_request_id": record.request_id,
        "served_position": np.arange(count, dtype=np.int32),
        "served_ms": record.served_ms,
        "served_experiment": request.experiment,
        "served_bundle": versions.bundle,
        "served_store": versions.store_generation,
        "served_index": versions.index_generation,
        "served_delta_sequence": versions.delta_sequence,
        "served_degraded": result.degraded,
        "served_num_retrieved": result.num_retrieved,
    }
    for target in record.bundle.targets.names:
        asked = target in result.targets
        scores = result.probability[:, result.targets.index(target)] if asked else None
        columns[f"served_probability_{target}"] = None if scores is None else np.ascontiguousarray(scores)
    for field in _fields_of(record.bundle):
        columns[field.name] = _values_read(field, record)
    arrays = [_array(columns[field.name], field.type, count) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema).filter(pa.array(request.candidates.item != np.uint64(NO_ID)))


def _array(value: object, kind: pa.DataType, count: int) -> pa.Array:
    if isinstance(value, np.ndarray | pa.Array):
        return pa.array(value, kind)
    return pa.repeat(pa.scalar(value, kind), count)


def _fields_of(bundle: Bundle) -> list[AnyField]:
    return [field for field in bundle.schema.fields if field.part != "behavior"]


def _arrow_type(field: AnyField) -> pa.DataType:
    """Gives the type that docs/data.md has for a field: text are ids, numbers are numbers."""
    if field.type is ID:
        return pa.string()
    return pa.float32() if field.type is NUMBER else pa.list_(pa.uint64())


def _values_read(field: AnyField, record: Served) -> pa.Array:
    """Gives the values of a field that the bundle read: those of the request, else those that the store knew."""
    request, found = record.request, record.answer.found
    given: Mapping[str, FieldColumn] = {
        "candidate": request.candidate_fields,
        "user": request.user_fields,
        "context": request.context_fields,
    }[field.part]
    stored: Mapping[str, FieldColumn] = {"candidate": found.candidate_fields, "user": found.user_fields}.get(
        field.part, {}
    )
    pair = given.get(field.name), stored.get(field.name)
    if field.kind == "multi_valued":
        lists = resolve_lists(*pair, record.num_rows)
        return pa.ListArray.from_arrays(lists.offsets.astype(np.int32), lists.values)
    values = resolve_values(field, *pair, record.num_rows)
    if field.type is NUMBER:
        return pa.array(values, pa.float32(), from_pandas=True)  # NaN = missing
    return pa.array(values, mask=~ID.given(values)).cast(pa.string())
