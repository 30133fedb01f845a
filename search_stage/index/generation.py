"""The index generation: one attention vector per node of a store's taxonomy, published and mapped.

Files of a generation (`docs/index.md`)::

    attention.npy        (num_nodes + 1, d)           row n = node n, the last row = unmapped = zeros
    representative.npy   uint32  (num_nodes + 1,)     the first row that is bitwise equal to row n
    cluster.npy          uint16  (num_nodes + 1,)     the centroid nearest to row n
    centroids.npy        float32 (K, d)
    ids.npy, is_item.npy uint64, bool (num_nodes,)    whose the rows are
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from search_stage.errors import CorruptIndexError, IndexMismatchError
from search_stage.index.layout import (
    CENTROIDS_FILE,
    CLUSTER_FILE,
    IDS_FILE,
    IS_ITEM_FILE,
    REBUILD,
    REPRESENTATIVE_FILE,
    TABLE_FILE,
    IndexMeta,
    VectorType,
    read_meta,
)
from search_stage.index.vectors import LARGEST_NORM, STORED_AS, norms, to_float32
from store.publishing.generation import open_generation

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from store.reading.snapshot import Snapshot
    from store.types import F32, U32, U64, AnyArray, Bool

_ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexGeneration:
    """A published attention table. Immutable and thread-safe; the arrays are mapped for as long as they are used."""

    root: Path
    name: str
    meta: IndexMeta
    table: AnyArray
    """Vectors as they are stored: float32, float16, or uint16 = bfloat16. (num_nodes + 1, d)"""
    representative: U32
    """For each row the first one of an equal vector. (num_nodes + 1,)"""
    cluster: npt.NDArray[np.uint16]
    """For each row the nearest of the `centroids`; equal vectors have the same. (num_nodes + 1,)"""
    centroids: F32
    """(K, d)"""
    ids: U64
    """Id of the category or item that each node is. (num_nodes,)"""
    is_item: Bool
    """(num_nodes,)"""

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""
        return int(self.table.shape[1])

    @property
    def dtype(self) -> VectorType:
        """How the numbers of the table are stored."""
        return self.meta.dtype

    @property
    def model(self) -> str:
        """Name of the model generation the vectors come from."""
        return self.meta.model

    @property
    def store_generation(self) -> str:
        """The store generation it was built with; another one of an equal taxonomy serves as well."""
        return self.meta.store_generation

    def take(self, nodes: npt.NDArray[np.integer[Any]]) -> F32:
        """Gives the vectors of some nodes as float32; a new array (N, d).

        Args:
            nodes: Node numbers, or num_nodes for what is unmapped. (N,)
        """
        return to_float32(self.table.take(nodes, axis=0))

    @staticmethod
    def open(root: Path, name: str | None = None) -> IndexGeneration:
        """Opens an index generation after checking its files and every number in them.

        Args:
            root: Folder that `lookback-search build-index --index` wrote.
            name: Name of the generation; None = the current one.

        Raises:
            store.errors.GenerationError: Nothing is published, or a file does not match its manifest.
            CorruptIndexError: A file matches its manifest and still is no attention table. Both name the file.
        """
        opened = open_generation(root, "index", name)
        path, meta = opened.path, read_meta(opened)
        rows = (meta.num_nodes + 1,)
        index = IndexGeneration(
            root=root,
            name=opened.name,
            meta=meta,
            table=_map_array(path / TABLE_FILE, STORED_AS[meta.dtype], (*rows, meta.dim)),
            representative=_map_array(path / REPRESENTATIVE_FILE, np.dtype(np.uint32), rows),
            cluster=_map_array(path / CLUSTER_FILE, np.dtype(np.uint16), rows),
            centroids=_map_array(path / CENTROIDS_FILE, np.dtype(np.float32), (meta.num_clusters, meta.dim)),
            ids=_map_array(path / IDS_FILE, np.dtype(np.uint64), (meta.num_nodes,)),
            is_item=_map_array(path / IS_ITEM_FILE, np.dtype(np.bool_), (meta.num_nodes,)),
        )
        _check(path, index)
        return index

    def check_store(self, snapshot: Snapshot) -> None:
        """Checks that the table's rows are the nodes of a store generation.

        Raises:
            IndexMismatchError: It was built for another taxonomy.
        """
        if (
            self.meta.taxonomy_fingerprint != snapshot.meta.taxonomy_fingerprint
            or len(self.table) != snapshot.taxonomy.num_nodes + 1
        ):
            raise IndexMismatchError(
                f"{self.root / 'generations' / self.name / 'manifest.json'}: this index was built for the taxonomy of "
                f"store generation {self.store_generation}, the store serves {snapshot.generation} with another one; "
                f"{REBUILD}"
            )

    def check_model(self, model: str) -> None:
        """Checks that the vectors are those of a model: scores of another one's mean nothing to it.

        Args:
            model: Name of the model generation whose attention table is in use.

        Raises:
            IndexMismatchError: They come from another one.
        """
        if self.model != model:
            raise IndexMismatchError(
                f"{self.root / 'generations' / self.name / 'manifest.json'}: this index holds the vectors of model "
                f"{self.model}, the model in use has those of {model}; {REBUILD} with its export"
            )


def _map_array(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> AnyArray:
    try:
        array = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise CorruptIndexError(f"{path}: is no .npy file ({error}); {REBUILD}") from error
    if array.dtype != dtype or array.shape != shape:
        raise CorruptIndexError(
            f"{path}: holds {array.dtype} {array.shape}, the manifest promises {dtype} {shape}; {REBUILD}"
        )
    return array


def _check(path: Path, index: IndexGeneration) -> None:
    """Reads every number that search relies on."""
    for start in range(0, len(index.table), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        if not bool(np.all(norms(to_float32(index.table[rows])) <= LARGEST_NORM)):
            raise CorruptIndexError(f"{path / TABLE_FILE}: holds a vector that is not finite or too large; {REBUILD}")
        stop = start + len(index.table[rows])
        if bool(np.any(index.representative[rows] > np.arange(start, stop))):
            raise CorruptIndexError(f"{path / REPRESENTATIVE_FILE}: does not fit {TABLE_FILE}; {REBUILD}")
        if bool(np.any(index.cluster[rows] >= len(index.centroids))):
            raise CorruptIndexError(f"{path / CLUSTER_FILE}: names a cluster beyond {CENTROIDS_FILE}; {REBUILD}")
    if bool(np.any(index.table[-1])):
        raise CorruptIndexError(f"{path / TABLE_FILE}: the last row must be zero; {REBUILD}")
    if not bool(np.all(norms(index.centroids) <= LARGEST_NORM)):
        raise CorruptIndexError(f"{path / CENTROIDS_FILE}: holds a number that is not finite or too large; {REBUILD}")
