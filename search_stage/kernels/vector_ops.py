"""Operations on many numbers at once that the compiler does not find in a loop, given to it as vectors of LLVM.

They are for use inside kernels. Each is what its docstring says in a line of Python; on a machine without such vectors
LLVM makes loops of them again.
"""

# What numba hands to a generator has no types of its own.
# ruff: noqa: ANN401

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

if TYPE_CHECKING:
    from collections.abc import Callable

    from store.types import F32, I32, U32, AnyArray

WORD = 64
"""Values behind the bits of a word."""
LANES = 8
"""Partial sums of `lane_sums`."""
BEST_ROWS = 6
"""Rows of `keep_best`."""
BEST_LANES = 16
"""Columns of its best scores."""
BEST_VECTORS = 4 if binding.get_host_cpu_features().get("avx512f", False) else 1
"""Vectors of so many lanes in a block: as many as the sums of all rows have registers for."""
PLACES = 32
"""Values that `count_below` places at once."""

_tools: Any = cgutils
_places: Any = types.UniTuple
_INT1, _INT32, _INT64, _FLOAT = ir.IntType(1), ir.IntType(32), ir.IntType(64), ir.FloatType()
_Emitted = tuple[Any, "Callable[[Any, Any, Any, Any], Any]"]


def _emit_at_least(context: Any, values: Any, start: Any, bar: Any) -> _Emitted | None:
    return _compared(values, types.float32, lambda builder, given, bars: builder.fcmp_ordered(">=", given, bars))


def _emit_below(context: Any, values: Any, start: Any, bar: Any) -> _Emitted | None:
    return _compared(values, types.uint32, lambda builder, given, bars: builder.icmp_unsigned("<", given, bars))


def _compared(values: Any, kind: Any, compare: Callable[[Any, Any, Any], Any]) -> _Emitted | None:
    if values.layout != "C" or values.dtype != kind:
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        many = ir.VectorType(args[2].type, WORD)
        given = _load(builder, _place(context, builder, signature.args[0], args[0], [args[1]]), many)
        return builder.bitcast(compare(builder, given, _everywhere(builder, args[2], WORD)), _INT64)

    return types.uint64(values, types.int64, kind), generate


def _emit_lowest_bit(context: Any, word: Any) -> _Emitted:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(_INT1, 1))

    return types.int64(types.uint64), generate


def _emit_count_below(context: Any, values: Any, count: Any, start: Any, out: Any) -> _Emitted | None:
    if values.layout != "C" or out.layout != "C" or values.dtype != types.uint32 or out.dtype != types.uint32:
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        many, zero = ir.VectorType(_INT32, PLACES), ir.Constant(_INT64, 0)
        everywhere = ir.Constant(many, [0] * PLACES)
        bars = _load(builder, _place(context, builder, signature.args[0], args[0], [args[2]]), many)
        first = _place(context, builder, signature.args[0], args[0], [zero])
        counts = _tools.alloca_once(builder, many)
        builder.store(everywhere, counts)
        with _tools.for_range(builder, args[1]) as loop:
            value = builder.load(builder.gep(first, [loop.index]))
            one = builder.insert_element(ir.Constant(many, ir.Undefined), value, ir.Constant(_INT32, 0))
            values = builder.shuffle_vector(one, ir.Constant(many, ir.Undefined), everywhere)
            is_below = builder.zext(builder.icmp_unsigned("<", values, bars), many)
            builder.store(builder.add(builder.load(counts), is_below), counts)
        target = _place(context, builder, signature.args[3], args[3], [args[2]])
        builder.store(builder.load(counts), builder.bitcast(target, many.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(values, types.int64, types.int64, out), generate


def _emit_lane_product(context: Any, left: Any, i: Any, right: Any, j: Any) -> _Emitted | None:
    if left.layout != "C" or right.layout != "C":
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes, zero = ir.VectorType(_FLOAT, LANES), ir.Constant(_INT64, 0)
        dim = builder.extract_value(context.make_array(signature.args[0])(context, builder, args[0]).shape, 1)
        one = _place(context, builder, signature.args[0], args[0], [args[1], zero])
        other = _place(context, builder, signature.args[2], args[2], [args[3], zero])
        sums = _tools.alloca_once(builder, lanes)
        builder.store(ir.Constant(lanes, [0.0] * LANES), sums)
        whole = builder.and_(dim, ir.Constant(_INT64, -LANES))
        with _tools.for_range_slice(builder, zero, whole, ir.Constant(_INT64, LANES)) as (at, _):
            product = builder.fmul(
                _load(builder, builder.gep(one, [at]), lanes), _load(builder, builder.gep(other, [at]), lanes)
            )
            builder.store(builder.fadd(builder.load(sums), product), sums)
        cells = builder.bitcast(sums, _FLOAT.as_pointer())
        with _tools.for_range(builder, builder.sub(dim, whole)) as loop:
            cell, at = builder.gep(cells, [loop.index]), builder.add(whole, loop.index)
            product = builder.fmul(builder.load(builder.gep(one, [at])), builder.load(builder.gep(other, [at])))
            builder.store(builder.fadd(builder.load(cell), product), cell)
        lane_sums, total = builder.load(sums), ir.Constant(_FLOAT, 0.0)
        for lane in range(LANES):
            total = builder.fadd(total, builder.extract_element(lane_sums, ir.Constant(_INT32, lane)))
        return total

    return types.float32(left, types.int64, right, types.int64), generate


def _emit_prefetch(context: Any, values: Any, index: Any) -> _Emitted | None:
    if values.layout != "C":
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _place(context, builder, signature.args[0], args[0], _tools.unpack_tuple(builder, args[1]))
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _INT32, _INT32, _INT32])
        function = _tools.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        read, keep, data = (ir.Constant(_INT32, value) for value in (0, 3, 1))
        builder.call(function, [builder.bitcast(place, byte), read, keep, data])
        return context.get_dummy_value()

    return types.void(values, _places(types.int64, values.ndim)), generate


def _emit_keep_best(
    context: Any, points: Any, row: Any, blocks: Any, block: Any, best: Any, which: Any
) -> _Emitted | None:
    if any(table.layout != "C" for table in (points, blocks, best, which)):
        return None
    lanes, numbers = ir.VectorType(_FLOAT, BEST_LANES), ir.VectorType(_INT32, BEST_LANES)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def row_of(at: int, row: int) -> Any:
            first = builder.add(args[1], ir.Constant(_INT64, row))
            return _place(context, builder, signature.args[at], args[at], [first, ir.Constant(_INT64, 0)])

        dim = builder.extract_value(context.make_array(signature.args[0])(context, builder, args[0]).shape, 1)
        zero = ir.Constant(_INT64, 0)
        starts = _place(context, builder, signature.args[2], args[2], [args[3], zero, zero])
        sums = _emit_block_sums(builder, [row_of(0, row) for row in range(BEST_ROWS)], starts, dim)
        first = builder.trunc(builder.mul(args[3], ir.Constant(_INT64, BEST_VECTORS)), _INT32)
        for row in range(BEST_ROWS):
            best_at, which_at = row_of(4, row), row_of(5, row)
            highest, number = _load(builder, best_at, lanes), _load(builder, which_at, numbers)
            for vector in range(BEST_VECTORS):
                score = builder.load(sums[row][vector])
                is_higher = builder.fcmp_ordered(">", score, highest)
                here = _everywhere(builder, builder.add(first, ir.Constant(_INT32, vector)), BEST_LANES)
                highest = builder.select(is_higher, score, highest)
                number = builder.select(is_higher, here, number)
            for place, value in ((best_at, highest), (which_at, number)):
                builder.store(value, builder.bitcast(place, value.type.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(points, types.int64, blocks, types.int64, best, which), generate


def _emit_block_sums(builder: Any, rows: list[Any], starts: Any, dim: Any) -> list[list[Any]]:
    """Gives where the sums of each row and vector of a block stand: variables, which LLVM keeps in registers."""
    lanes = ir.VectorType(_FLOAT, BEST_LANES)
    kind = ir.FunctionType(lanes, [lanes] * 3)
    multiply_add = _tools.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{BEST_LANES}f32")

    def vectors_at(column: Any) -> list[Any]:
        base = builder.gep(starts, [builder.mul(column, ir.Constant(_INT64, BEST_VECTORS * BEST_LANES))])
        places = [builder.gep(base, [ir.Constant(_INT64, at * BEST_LANES)]) for at in range(BEST_VECTORS)]
        return [_load(builder, place, lanes) for place in places]

    sums = [[_tools.alloca_once(builder, lanes) for _ in range(BEST_VECTORS)] for _ in rows]
    for start, column in zip(vectors_at(ir.Constant(_INT64, 0)), zip(*sums, strict=True), strict=True):
        for place in column:
            builder.store(start, place)
    with _tools.for_range(builder, dim) as loop:
        factors = vectors_at(builder.add(loop.index, ir.Constant(_INT64, 1)))
        for row, places in zip(rows, sums, strict=True):
            value = _everywhere(builder, builder.load(builder.gep(row, [loop.index])), BEST_LANES)
            for factor, place in zip(factors, places, strict=True):
                builder.store(builder.call(multiply_add, [value, factor, builder.load(place)]), place)
    return sums


def _everywhere(builder: Any, value: Any, lanes: int) -> Any:
    """Gives a vector with one value in every lane."""
    undefined = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INT32, lanes), [0] * lanes))


def _place(context: Any, builder: Any, kind: Any, array: Any, index: list[Any]) -> Any:
    """Gives the address of an element of a contiguous array."""
    made = context.make_array(kind)(context, builder, array)
    return _tools.get_item_pointer2(
        context, builder, made.data, _tools.unpack_tuple(builder, made.shape), None, "C", index
    )


def _load(builder: Any, place: Any, kind: Any) -> Any:
    return builder.load(builder.bitcast(place, kind.as_pointer()), align=4)


def _operation(emit: Callable[..., Any]) -> Any:
    return intrinsic(emit)


at_least: Callable[[F32, int, np.float32], np.uint64] = _operation(_emit_at_least)
"""`at_least(values, start, bar)`: bit k is `values[start + k] >= bar`, for 64 values of a contiguous array."""

below: Callable[[U32, int, np.uint32], np.uint64] = _operation(_emit_below)
"""`below(values, start, bar)`: bit k is `values[start + k] < bar`, for 64 values of a contiguous array."""

lowest_bit: Callable[[np.uint64], int] = _operation(_emit_lowest_bit)
"""`lowest_bit(word)`: the number of the lowest bit that is set; one must be."""

count_below: Callable[[U32, int, int, U32], None] = _operation(_emit_count_below)
"""`count_below(values, count, start, out)`: `out[start + k] = sum(values[:count] < values[start + k])`, for `PLACES`
numbers k."""

lane_product: Callable[[F32, int, F32, int], np.float32] = _operation(_emit_lane_product)
"""`lane_product(left, i, right, j)`: `score_pairs(left[i : i + 1], right[j : j + 1])[0]`, of contiguous tables."""

prefetch: Callable[[AnyArray, tuple[int, ...]], None] = _operation(_emit_prefetch)
"""`prefetch(values, index)`: nothing; the memory at `values[index]`, 64 bytes of it, is about to be read."""

keep_best: Callable[[F32, int, F32, int, F32, I32], None] = _operation(_emit_keep_best)
"""`keep_best(points, row, blocks, block, best, which)`: for each r below `BEST_ROWS`, the numbers `blocks[block, 0] +
points[row + r] @ blocks[block, 1:]` are held against `best[row + r]`, in parts of `BEST_LANES`. Where that of part v is
higher, it is put there, and `block * BEST_VECTORS + v` in `which[row + r]`. All tables are contiguous. Products may be
rounded before they are added, or not."""
