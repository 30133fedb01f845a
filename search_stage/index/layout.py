"""What an index generation consists of: its files, and what its manifest says about them. `docs/index.md`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from search_stage.errors import CorruptIndexError

if TYPE_CHECKING:
    from store.publishing.generation import OpenedGeneration

INDEX_FORMAT: Final = 1
"""Version of the files of an index generation."""

TABLE_FILE = "attention.npy"
REPRESENTATIVE_FILE = "representative.npy"
CLUSTER_FILE = "cluster.npy"
CENTROIDS_FILE = "centroids.npy"
IDS_FILE = "ids.npy"
IS_ITEM_FILE = "is_item.npy"

MAX_CLUSTERS = 65_535
"""So that the number of a cluster fits 16 bits."""
REBUILD = "run `lookback-search build-index --export FILE --store ROOT --index ROOT` again"

VectorType = Literal["float32", "float16", "bfloat16"]
"""How numbers of the attention table are stored; a bfloat16 is kept as the upper 16 bits of the float32, uint16."""

_Count = Annotated[int, Field(ge=0)]


class SelfCheck(BaseModel):
    """What was measured on the index before it was published; `selfcheck.py` says how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_users: _Count
    """Sampled users with a history long enough for the approximate path; 0 = there was none, nothing was measured."""
    top_k: _Count
    probes: _Count
    """Clusters looked into per query."""
    recall: Annotated[float, Field(ge=0, le=1)]
    """Mean share of the exact `top_k` that the approximate path finds."""
    scored: Annotated[float, Field(ge=0, le=1)]
    """Mean share of the distinct vectors of a history that it scores for that."""
    norm_error: Annotated[float, Field(ge=0)]
    """Largest relative difference between the norm of a stored vector and of the exported one."""


class IndexMeta(BaseModel):
    """Facts about one index generation; its JSON is the manifest's `meta`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index_format: Literal[1] = INDEX_FORMAT
    dtype: VectorType
    dim: Annotated[int, Field(ge=1)]
    num_nodes: _Count
    num_own: _Count
    """Nodes that have the vector the export holds for them."""
    num_inherited: _Count
    """Nodes that have the vector of a category above."""
    num_without: _Count
    """Nodes without a vector: all zeros."""
    num_distinct: _Count
    """Different vectors among all rows."""
    num_clusters: Annotated[int, Field(ge=1, le=MAX_CLUSTERS)]
    model: str
    """Name of the model generation the vectors come from."""
    export_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    store_generation: str
    """The store generation it was built with; another one of an equal taxonomy serves as well."""
    taxonomy_fingerprint: str
    base: str
    """Index generation whose centroids were kept and whose unchanged rows were carried over; empty = none."""
    num_carried: _Count
    check: SelfCheck


def read_meta(generation: OpenedGeneration) -> IndexMeta:
    """Gives the facts an index generation's manifest holds.

    Raises:
        CorruptIndexError: One is absent, unknown, out of range, or of another version than this program reads.
    """
    where = generation.path / "manifest.json"
    found = generation.manifest.meta.get("index_format")
    if found != INDEX_FORMAT:
        raise CorruptIndexError(f"{where}: index format {found}, this program reads {INDEX_FORMAT}; {REBUILD}")
    try:
        return IndexMeta.model_validate_json(json.dumps(generation.manifest.meta))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise CorruptIndexError(f"{where}: meta.{field}: {first['msg']}; {REBUILD}") from error
