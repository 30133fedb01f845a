"""Reads the taxonomy, bridges, items and users of a dataset folder."""

# pyarrow makes its compute functions at import time: no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from store.base.tables import CoverTable, FieldTable
from store.dataset.column_types import ColumnType, types_in
from store.dataset.field_values import id_field, is_list, list_values, number_field
from store.dataset.oddities import Oddities
from store.dataset.parsing import IdPool, is_text, text_column
from store.dataset.table_reader import TABLE_COLUMNS
from store.errors import InputError
from store.fields import ID_LISTS, VALUE_TYPES
from store.files.arrays import find_sorted
from store.lists import MAX_LIST_VALUES, Lists
from store.taxonomy.numbering import BridgeRows, CategoryRows, ItemRows, no_bridges, no_items
from store.types import NO_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from store.dataset.batch import Batch
    from store.dataset.table_reader import TableReader
    from store.fields import FieldColumn, IdLists
    from store.types import I64, U64, Bool, NameKind, Strings


@dataclass(slots=True)
class IdPools:
    """The ids of a dataset, by kind; items are what users act on and the ads alike."""

    odd: Oddities = field(default_factory=Oddities)
    """What is odd about their strings."""
    users: IdPool = field(init=False)
    items: IdPool = field(init=False)
    categories: IdPool = field(init=False)
    values: IdPool = field(init=False)

    def __post_init__(self) -> None:
        self.users = IdPool("user", self.odd)
        self.items = IdPool("item", self.odd)
        self.categories = IdPool("category", self.odd)
        self.values = IdPool("side-info value")

    def of(self, kind: NameKind) -> IdPool:
        """Gives the pool of one kind."""
        return {"user": self.users, "item": self.items, "category": self.categories, "value": self.values}[kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemInput:
    """What the items file says."""

    rows: ItemRows
    fields: FieldTable
    covers: CoverTable


def read_categories(tables: TableReader, pools: IdPools) -> CategoryRows:
    """Reads the taxonomy file.

    Raises:
        InputError: There is none, or it cannot be read.
        TooManyBadRowsError: See `BadRows`.
    """
    batch = tables.read("taxonomy", {"category", "parent"})
    if batch is None:
        raise InputError(f"{tables.folder}: has no taxonomy.parquet, .csv or .csv.gz; docs/data.md says what it holds")
    category = pools.categories.column(batch, "category", required=True)
    parent = pools.categories.column(batch, "parent", required=False)
    good = batch.report(tables.bad_rows)
    tables.keep("taxonomy", batch, good)
    category, domain, name = category[good], texts(batch, "domain")[good], texts(batch, "name")[good]
    # The ads' tree last, so that its names win where another domain uses the same id.
    for of_ads in (False, True):
        _keep_names(pools.categories, category, np.where((domain == "") == of_ads, name, ""))
    return CategoryRows(
        category=category,
        parent=parent[good],
        domain=domain,
        where=_where(batch, good),
        label=pools.categories.text_of,
    )


def read_bridges(tables: TableReader, pools: IdPools) -> BridgeRows:
    """Reads the bridges file; no rows when there is none. Errors: `read_categories`."""
    batch = tables.read("bridges", {"domain", "category", "node"})
    if batch is None:
        return no_bridges()
    category = pools.categories.column(batch, "category", required=True)
    node = pools.categories.column(batch, "node", required=True)
    domain = texts(batch, "domain")
    batch.check.refuse(domain == "", lambda row: "domain: missing")
    good = batch.report(tables.bad_rows)
    tables.keep("bridges", batch, good)
    return BridgeRows(
        domain=domain[good],
        category=category[good],
        node=node[good],
        where=_where(batch, good),
        label=pools.categories.text_of,
    )


def read_items(tables: TableReader, pools: IdPools) -> ItemInput:
    """Reads the items file; nothing when there is none. Errors: `read_categories`."""
    batch = tables.read("items", {"item"}, free=True)
    if batch is None:
        nothing = np.empty(0, np.uint64)
        covers = CoverTable(ids=nothing, offsets=np.zeros(1, np.int64), values=nothing)
        return ItemInput(rows=no_items(), fields=FieldTable(ids=nothing, fields={}), covers=covers)
    item = pools.items.column(batch, "item", required=True)
    category = np.full(len(batch), NO_ID, np.uint64)
    if "category" in batch.columns:
        category = pools.categories.column(batch, "category", required=False)
    covered, cover_rows = _covered(batch, pools.items)
    fields = table_fields(batch, set(TABLE_COLUMNS["items"]), pools)
    _refuse_repeated(batch, "item", item)
    good = batch.report(tables.bad_rows)
    tables.keep("items", batch, good, fields)
    _keep_names(pools.items, item[good], texts(batch, "name")[good])
    kept = good[cover_rows]
    return ItemInput(
        rows=ItemRows(item=item[good], category=category[good], domain=texts(batch, "domain")[good]),
        fields=_field_table(item, fields, good),
        covers=_cover_table(item[cover_rows[kept]], covered[kept]),
    )


def read_users(tables: TableReader, pools: IdPools, deleted: U64) -> FieldTable:
    """Reads the users file; an empty table when there is none. Errors: `read_categories`.

    Args:
        tables: Where the file is.
        pools: Take the names.
        deleted: Users whose row is passed over, ascending.
    """
    batch = tables.read("users", {"user"}, free=True)
    if batch is None:
        return FieldTable(ids=np.empty(0, np.uint64), fields={})
    user = pools.users.column(batch, "user", required=True)
    fields = table_fields(batch, {"user"}, pools)
    _refuse_repeated(batch, "user", user)
    good = batch.report(tables.bad_rows) & ~find_sorted(deleted, user)[1]
    tables.keep("users", batch, good, fields)
    return _field_table(user, fields, good)


def texts(batch: Batch, name: str) -> Strings:
    """Gives a column of strings, empty where absent or null."""
    if name not in batch.columns:
        return np.full(len(batch), "", object)
    column = text_column(f"{batch.file}: {name}", batch.columns[name])
    out: Strings = column.fill_null("").to_numpy(zero_copy_only=False).astype(object)
    return out


def _where(batch: Batch, good: Bool) -> Callable[[int], str]:
    lines = batch.lines[good]
    return lambda row: f"{batch.file}:{lines[row]}"


def _keep_names(pool: IdPool, ids: U64, names: Strings) -> None:
    named = np.flatnonzero(names != "")
    pool.shown.update(zip(ids[named].tolist(), names[named].tolist(), strict=True))


def _refuse_repeated(batch: Batch, name: str, ids: U64) -> None:
    good = np.flatnonzero(batch.check.good())
    _, first, inverse = np.unique(ids[good], return_index=True, return_inverse=True)
    first_row = np.arange(len(batch))
    first_row[good] = good[first[inverse]]
    batch.check.refuse(
        first_row != np.arange(len(batch)),
        lambda row: f"{name}: {batch.columns[name][row].as_py()} stands already at line {batch.lines[first_row[row]]}",
    )


def side_fields(batch: Batch, types: Mapping[str, ColumnType], values: IdPool) -> dict[str, FieldColumn]:
    """Gives the side-info fields of a batch, by name ascending; one that the batch lacks is missing in all rows.

    Strings become uint64 ids (`NO_ID` = missing), numbers float32 (NaN = missing), lists become lists of ids. Rows
    with a value that is none of these are refused.

    Args:
        batch: Some rows.
        types: What the fields are of, over all that is read.
        values: Makes the ids.

    Raises:
        InputError: Two strings share one hash.
    """
    out: dict[str, FieldColumn] = {}
    for name, found in sorted(types.items()):
        column = batch.columns.get(name)
        if column is None or column.null_count == len(column):
            out[name] = (ID_LISTS if found.kind == "list" else VALUE_TYPES[found.kind]).missing(len(batch))
        elif found.kind == "list":
            out[name] = _list_field(batch, name, values)
        else:
            out[name] = id_field(batch, name, values) if found.kind == "id" else number_field(batch, name)
    return out


def table_fields(batch: Batch, own: set[str], pools: IdPools) -> dict[str, FieldColumn]:
    """Gives the side-info fields of a table that is read whole; where no row has a value, as ids. See `side_fields`.

    Raises:
        InputError: A column is neither of strings nor of numbers nor of lists of ids; or as `side_fields`.
    """
    empty = {name: ColumnType(kind="id", is_certain=False, where=batch.file) for name in batch.columns.keys() - own}
    return side_fields(batch, empty | types_in(batch, own, pools.odd), pools.values)


def _list_field(batch: Batch, name: str, values: IdPool) -> IdLists:
    """Gives a multi-valued side-info field: the ids of each list, ascending and without repetition.

    Refuses rows whose list holds what is none, or too many values. Errors: `list_values`.
    """
    ids, list_of = list_values(batch, name, batch.columns[name], values)
    lengths = np.bincount(list_of, minlength=len(batch))
    batch.check.refuse(
        lengths > MAX_LIST_VALUES, lambda row: f"{name}: {lengths[row]} values in a list, at most {MAX_LIST_VALUES}"
    )
    return Lists.of(list_of, ids, len(batch))


def _field_table(ids: U64, fields: dict[str, FieldColumn], good: Bool) -> FieldTable:
    rows = np.flatnonzero(good)
    rows = rows[np.argsort(ids[rows])]
    return FieldTable(ids=ids[rows], fields={name: column[rows] for name, column in fields.items()})


def _covered(batch: Batch, items: IdPool) -> tuple[U64, I64]:
    """Gives all covered ids and the row of each, refusing rows with a bad one."""
    column = batch.columns.get("covers")
    if column is None or pa.types.is_null(column.type):
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    if batch.is_text and is_text(column.type):
        column = pc.split_pattern(column, "|")
    if not is_list(column.type):
        raise InputError(f"{batch.file}: covers has type {column.type}; it must be a list of ids")
    return list_values(batch, "covers", column, items)


def _cover_table(ads: U64, covered: U64) -> CoverTable:
    ids, ad = np.unique(ads, return_inverse=True)
    lists = Lists.of(ad, covered, len(ids))
    return CoverTable(ids=ids, offsets=lists.offsets, values=lists.values)
