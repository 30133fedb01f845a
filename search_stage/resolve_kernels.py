"""Kernels that find ids in tables of ascending ones, and what depends on what they find."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from store.compiled import kernel, kernel_no_refcount
from store.types import NO_ID

if TYPE_CHECKING:
    from store.types import I32, I64, U32, U64, Bool

_NO_ID = np.uint64(NO_ID)
_IDS_AT_ONCE = 256
"""Ids that are looked for together."""


@kernel
def find_ids(ids: U64, wanted: U64) -> tuple[I64, Bool]:
    """Does what `store.files.arrays.find_sorted` does, when the memory of the table is not in the cache.

    All searches go step by step together: while one waits for memory the others go on.

    Args:
        ids: Ascending, distinct, read-only. (K,)
        wanted: Any order, any multiplicity, read-only. (N,)

    Returns:
        Positions, some valid one where an id is absent, 0 when there are no ids; which ids are there. (N,) each.
    """
    place, found = np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.bool_)
    if len(ids) > 0:
        for begin in range(0, len(wanted), _IDS_AT_ONCE):
            _search(ids, wanted[begin : begin + _IDS_AT_ONCE], place[begin : begin + _IDS_AT_ONCE])
        for at in range(len(wanted)):
            found[at] = ids[place[at]] == wanted[at]
    return place, found


@kernel_no_refcount
def _search(ids: U64, wanted: U64, place: I64) -> None:
    """Moves each `place`, all 0, to the last id that is not above the wanted one, or leaves it."""
    step = 1
    while 2 * step < len(ids):
        step *= 2
    while step > 0:
        for at in range(len(wanted)):
            probe = min(place[at] + step, len(ids) - 1)
            place[at] = probe if ids[probe] <= wanted[at] else place[at]
        step >>= 1


@kernel
def nodes_of(ids: U64, nodes: U32, wanted: U64, unmapped: int) -> U32:
    """Does what `Taxonomy.item_node` does: `ids` and `nodes` are its `item_ids` and `item_nodes`, read-only. (N,)."""
    place, found = find_ids(ids, wanted)
    out = np.empty(len(wanted), np.uint32)
    for at in range(len(wanted)):
        out[at] = nodes[place[at]] if found[at] else unmapped
    return out


@kernel
def categories_of(item_node: U32, parent: I32) -> U32:
    """Gives the category that each item hangs under, `len(parent)`, which is unmapped, where there is none. (C,)."""
    unmapped = len(parent)
    out = np.empty(len(item_node), np.uint32)
    for at in range(len(item_node)):
        above = np.int64(parent[item_node[at]]) if item_node[at] < unmapped else np.int64(-1)
        out[at] = above if above >= 0 else unmapped
    return out


@kernel
def list_known(nodes: U32, unmapped: int) -> tuple[U32, I64]:
    """Makes lists of at most one node: the known ones, and where each list starts, and the end, (C + 1,)."""
    known, offsets, count = np.empty(len(nodes), np.uint32), np.zeros(len(nodes) + 1, np.int64), 0
    for at in range(len(nodes)):
        known[count] = nodes[at]
        count += int(nodes[at] < unmapped)
        offsets[at + 1] = count
    return known[:count], offsets


@kernel
def ids_of(nodes: U32, ids: U64) -> U64:
    """Gives the ids of nodes, `ids` being read-only and `Taxonomy.id`; `NO_ID` = unmapped. (C,)."""
    out = np.empty(len(nodes), np.uint64)
    for at in range(len(nodes)):
        out[at] = ids[nodes[at]] if nodes[at] < len(ids) else _NO_ID
    return out
