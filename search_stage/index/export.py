"""A model's attention export: fused vectors of categories and items by id, as `model_stage` publishes them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from search_stage.errors import ExportError
from search_stage.index.vectors import LARGEST_NORM, norms
from store.publishing.generation import CURRENT_FILE, open_generation
from store.types import NO_ID

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from store.types import F32, U64, AnyArray

EXPORT_FILE = "attention.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Attention vectors by id. A vector is complete: an item's already holds its categories'."""

    path: Path
    sha256: str
    model: str
    """Name of the model generation, the folder that the file is in."""
    category_ids: U64
    """Distinct. (C,)"""
    category_vectors: F32
    """Finite, of norms up to `LARGEST_NORM`. (C, d)"""
    item_ids: U64
    """Distinct. (I,)"""
    item_vectors: F32
    """As `category_vectors`. (I, d)"""

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""
        return int(self.item_vectors.shape[1])

    @staticmethod
    def read(given: Path) -> Export:
        """Reads and checks an export.

        Args:
            given: The file, the folder it is in, or a root of bundles, whose current one is taken. It holds
                `category_ids` and `item_ids` as the int64 bit patterns of uint64 ids, `category_vectors` and
                `item_vectors` as float32 (n, d).

        Raises:
            ExportError: It is missing, damaged or incomplete; names the file.
            store.errors.GenerationError: The current bundle cannot be opened.
        """
        folder = open_generation(given, "model").path if (given / CURRENT_FILE).is_file() else given
        path = folder / EXPORT_FILE if folder.is_dir() else folder
        try:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise ExportError(f"{path}: cannot be read ({error}); run `lookback-model train` to export it") from error
        category_ids, category_vectors = _part(path, tensors, "category")
        item_ids, item_vectors = _part(path, tensors, "item")
        dims = {category_vectors.shape[1], item_vectors.shape[1]}
        if len(dims) != 1 or 0 in dims:
            raise ExportError(f"{path}: vectors must have one common number of dimensions, has {sorted(dims)}")
        return Export(
            path=path,
            sha256=sha256,
            model=path.resolve().parent.name,
            category_ids=category_ids,
            category_vectors=category_vectors,
            item_ids=item_ids,
            item_vectors=item_vectors,
        )


def _part(path: Path, tensors: Mapping[str, AnyArray], part: str) -> tuple[U64, F32]:
    ids, vectors = tensors.get(f"{part}_ids"), tensors.get(f"{part}_vectors")
    if ids is None or vectors is None:
        raise ExportError(f"{path}: {part}_ids and {part}_vectors are needed, it holds {sorted(tensors)}")
    if ids.dtype != np.int64 or ids.ndim != 1:
        raise ExportError(f"{path}: {part}_ids must be int64 with one axis, is {ids.dtype} {ids.shape}")
    if vectors.dtype != np.float32 or vectors.ndim != 2 or len(vectors) != len(ids):
        raise ExportError(f"{path}: {part}_vectors must be float32 ({len(ids)}, d), is {vectors.dtype} {vectors.shape}")
    ids = ids.view(np.uint64)
    in_order = np.sort(ids)
    if bool(np.any(in_order[1:] == in_order[:-1])) or bool(np.any(in_order[-1:] == np.uint64(NO_ID))):
        raise ExportError(f"{path}: {part}_ids must be distinct ids below 2**64 - 1")
    if not bool(np.all(norms(vectors) <= LARGEST_NORM)):
        raise ExportError(f"{path}: {part}_vectors must be finite, of norms up to {LARGEST_NORM:g}")
    return ids, vectors
