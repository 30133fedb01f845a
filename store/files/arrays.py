"""Arrays as plain .npy files of a generation, mapped for reading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from store.errors import CorruptGenerationError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from store.types import AnyArray


def save_array(path: Path, array: AnyArray) -> None:
    """Writes an array, little-endian, as a .npy file; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_npy(path, array.astype(array.dtype.newbyteorder("<"), copy=False))


def write_npy(path: Path, array: AnyArray) -> None:
    """Writes an array as `np.save` does, which says nothing when the disk has no room for the last bytes.

    Raises:
        OSError: The file could not be written whole.
    """
    array = np.ascontiguousarray(array)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.reshape(-1).view(np.uint8).data)


def load_array(path: Path, *dtypes: npt.DTypeLike) -> npt.NDArray[Any]:
    """Maps a one-dimensional .npy file read-only; O(1).

    The file stays mapped for as long as the array or a view of it lives.

    Raises:
        CorruptGenerationError: Not such a file, or of another element type than the `dtypes` allowed.
    """
    try:
        array = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as exc:
        raise CorruptGenerationError(f"{path}: is no .npy file ({exc}); run `lookback-store ingest` again") from exc
    if array.ndim != 1 or array.dtype not in [np.dtype(dtype) for dtype in dtypes]:
        raise CorruptGenerationError(
            f"{path}: holds {array.dtype} with {array.ndim} axes, expected one axis of "
            f"{' or '.join(str(np.dtype(dtype)) for dtype in dtypes)}; run `lookback-store ingest` again"
        )
    return array


def find_sorted(
    keys: npt.NDArray[Any], wanted: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Gives where values stand in ascending distinct keys, and which of them do.

    The position of a value that is absent is some valid position (0 when there are no keys): use it under the mask.

    Args:
        keys: Ascending, distinct. (K,)
        wanted: Any order, any multiplicity. (N,)
    """
    if len(keys) == 0:
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.bool_)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1).astype(np.int64, copy=False)
    return at, keys[at] == wanted
