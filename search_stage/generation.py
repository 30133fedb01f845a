"""The index generation: one attention vector per node of a store's taxonomy, built from a model's export.

Files of a generation::

    attention.npy        float32 (num_nodes + 1, d)   row n = node n, the last row = unmapped = zeros
    representative.npy   uint32  (num_nodes + 1,)     the first row that is bitwise equal to row n
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from search_stage.errors import CorruptIndexError, ExportError, IndexMismatchError
from store.files.arrays import write_npy
from store.generation import CURRENT_FILE, GenerationWriter, open_generation, translate_os_errors
from store.types import NO_ID

if TYPE_CHECKING:
    from pathlib import Path

    from store.reading.behavior_store import BehaviorStore, Snapshot
    from store.taxonomy.taxonomy import Taxonomy
    from store.types import F32, I64, U32

EXPORT_FILE = "attention.safetensors"

_TABLE = "attention.npy"
_REPRESENTATIVE = "representative.npy"
_LARGEST_NORM = 1e18
"""So that no inner product of two rows overflows float32."""
_ROWS_AT_ONCE = 1 << 16
_REBUILD = "run `lookback-search build-index --export FILE --store ROOT --index ROOT` again"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexGeneration:
    """A published attention table. Immutable and thread-safe; the arrays are mapped for as long as they are used."""

    root: Path
    name: str
    table: F32
    """(num_nodes + 1, d)"""
    representative: U32
    """(num_nodes + 1,)"""
    taxonomy_fingerprint: str
    store_generation: str
    """The store generation it was built with; another one of an equal taxonomy serves as well."""
    model: str
    """Name of the model generation the vectors come from."""

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""
        return int(self.table.shape[1])

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
        table = _map_array(opened.path / _TABLE, np.dtype(np.float32), 2)
        representative = _map_array(opened.path / _REPRESENTATIVE, np.dtype(np.uint32), 1)
        _check_table(opened.path / _TABLE, table)
        if len(representative) != len(table) or bool(np.any(representative > np.arange(len(table)))):
            raise CorruptIndexError(f"{opened.path / _REPRESENTATIVE}: does not fit {_TABLE}; {_REBUILD}")
        meta = {key: str(value) for key, value in opened.manifest.meta.items()}
        for key in ("taxonomy_fingerprint", "store_generation", "model"):
            if key not in meta:
                raise CorruptIndexError(f"{opened.path / 'manifest.json'}: meta.{key} is missing; {_REBUILD}")
        return IndexGeneration(
            root=root,
            name=opened.name,
            table=table,
            representative=representative,
            taxonomy_fingerprint=meta["taxonomy_fingerprint"],
            store_generation=meta["store_generation"],
            model=meta["model"],
        )

    def check_store(self, snapshot: Snapshot) -> None:
        """Checks that the table's rows are the nodes of a store generation.

        Raises:
            IndexMismatchError: It was built for another taxonomy.
        """
        if (
            self.taxonomy_fingerprint != snapshot.meta.taxonomy_fingerprint
            or len(self.table) != snapshot.taxonomy.num_nodes + 1
        ):
            raise IndexMismatchError(
                f"{self.root / 'generations' / self.name / 'manifest.json'}: this index was built for the taxonomy of "
                f"store generation {self.store_generation}, the store serves {snapshot.generation} with another one; "
                f"{_REBUILD}"
            )


def build_index(export: Path, store: BehaviorStore, root: Path) -> str:
    """Builds and publishes an index generation for the store's current generation.

    A node gets the vector the export has for it, else that of its nearest ancestor category that has one, else zeros.
    An exported vector is complete: an item's already holds its categories'.

    Args:
        export: A model's `attention.safetensors`, the folder it is in, or a root of bundles, whose current one is
            taken. It holds `category_ids` and `item_ids` as the int64 bit patterns of uint64 ids, and
            `category_vectors` and `item_vectors` as float32 (n, d).
        store: The store to build for.
        root: Where to publish; made if absent.

    Returns:
        The name of the published generation.

    Raises:
        ExportError: The export is missing, damaged or incomplete; names the file.
        store.errors.StoreIOError: The file system refused; nothing was published.
    """
    if (export / CURRENT_FILE).is_file():
        export = open_generation(export, "model").path
    path = export / EXPORT_FILE if export.is_dir() else export
    tensors = _read_export(path)
    with store.snapshot() as snapshot, GenerationWriter(root, kind="index") as writer:
        table, representative = _fill_table(tensors, snapshot.taxonomy)
        with translate_os_errors(f"{writer.path}: cannot write"):
            write_npy(writer.path / _TABLE, table)
            write_npy(writer.path / _REPRESENTATIVE, representative)
        writer.meta["dim"] = int(table.shape[1])
        writer.meta["taxonomy_fingerprint"] = snapshot.meta.taxonomy_fingerprint
        writer.meta["store_generation"] = snapshot.generation
        writer.meta["model"] = path.resolve().parent.name
        return writer.publish()


def _read_export(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ExportError(f"{path}: cannot be read ({error}); run `lookback-model train` to export it") from error
    dims = set()
    for part in ("category", "item"):
        ids, vectors = tensors.get(f"{part}_ids"), tensors.get(f"{part}_vectors")
        if ids is None or vectors is None:
            raise ExportError(f"{path}: {part}_ids and {part}_vectors are needed, it holds {sorted(tensors)}")
        if ids.dtype != np.int64 or ids.ndim != 1:
            raise ExportError(f"{path}: {part}_ids must be int64 with one axis, is {ids.dtype} {ids.shape}")
        if vectors.dtype != np.float32 or vectors.ndim != 2 or len(vectors) != len(ids):
            raise ExportError(
                f"{path}: {part}_vectors must be float32 ({len(ids)}, d), is {vectors.dtype} {vectors.shape}"
            )
        ids = ids.view(np.uint64)
        if len(np.unique(ids)) != len(ids) or bool(np.any(ids == np.uint64(NO_ID))):
            raise ExportError(f"{path}: {part}_ids must be distinct ids below 2**64 - 1")
        if not bool(np.all(_norms(vectors) <= _LARGEST_NORM)):
            raise ExportError(f"{path}: {part}_vectors must be finite, of norms up to {_LARGEST_NORM:g}")
        dims.add(vectors.shape[1])
    if len(dims) != 1 or 0 in dims:
        raise ExportError(f"{path}: vectors must have one common number of dimensions, has {sorted(dims)}")
    return tensors


def _fill_table(tensors: dict[str, np.ndarray[Any, Any]], taxonomy: Taxonomy) -> tuple[F32, U32]:
    vectors = np.concatenate((tensors["category_vectors"], tensors["item_vectors"])) + np.float32(0)
    vectors = np.concatenate((vectors, np.zeros((1, vectors.shape[1]), np.float32)))
    no_vector = len(vectors) - 1
    source = np.full(taxonomy.num_nodes + 1, -1, np.int64)
    source[taxonomy.unmapped] = no_vector
    _place(source, taxonomy.category_node(tensors["category_ids"].view(np.uint64)), 0)
    _place(source, taxonomy.item_node(tensors["item_ids"].view(np.uint64)), len(tensors["category_ids"]))
    for depth in range(1, taxonomy.max_depth + 1):
        nodes = np.flatnonzero((source[:-1] < 0) & (taxonomy.depth == depth))
        parent = taxonomy.parent[nodes].astype(np.int64)
        source[nodes] = np.where(parent < 0, no_vector, source[parent])
    table = vectors[source]
    return table, _representatives(vectors, source)


def _place(source: I64, nodes: U32, first_row: int) -> None:
    """Points nodes at rows of vectors, ids unknown to the store left out. Mutates `source`."""
    known = np.flatnonzero(nodes < len(source) - 1)
    source[nodes[known]] = first_row + known


def _representatives(vectors: F32, source: I64) -> U32:
    """Gives for each table row the first one of an equal vector."""
    as_bytes = np.ascontiguousarray(vectors).view(np.dtype((np.void, vectors.itemsize * vectors.shape[1]))).ravel()
    _, distinct = np.unique(as_bytes, return_inverse=True)
    _, first, group = np.unique(distinct[source], return_index=True, return_inverse=True)
    return first[group].astype(np.uint32)


def _map_array(path: Path, dtype: np.dtype[Any], ndim: int) -> np.ndarray[Any, Any]:
    try:
        array = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise CorruptIndexError(f"{path}: is no .npy file ({error}); {_REBUILD}") from error
    if array.dtype != dtype or array.ndim != ndim:
        raise CorruptIndexError(f"{path}: holds {array.dtype} {array.shape}, not {dtype} of {ndim} axes; {_REBUILD}")
    return array


def _check_table(path: Path, table: F32) -> None:
    if not table.shape[0] or not table.shape[1] or bool(np.any(table[-1])):
        raise CorruptIndexError(f"{path}: the last row must be there and zero; {_REBUILD}")
    for start in range(0, len(table), _ROWS_AT_ONCE):
        if not bool(np.all(_norms(table[start : start + _ROWS_AT_ONCE]) <= _LARGEST_NORM)):
            raise CorruptIndexError(f"{path}: holds a vector that is not finite or too large; {_REBUILD}")


def _norms(vectors: F32) -> np.ndarray[Any, np.dtype[np.float64]]:
    squares = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    norms: np.ndarray[Any, np.dtype[np.float64]] = np.sqrt(squares)
    return norms
