"""The operations of `vector_ops.py` as LLVM code: vectors, which on a machine without them become loops again."""

# What numba hands to a generator has no types of its own.
# ruff: noqa: ANN401

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from search_stage.kernels.widths import BEST_LANES, BEST_ROWS, BEST_VECTORS, LANES, PLACES, WORD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_tools: Any = cgutils
_places: Any = types.UniTuple
_INT1, _INT32, _INT64, _FLOAT = ir.IntType(1), ir.IntType(32), ir.IntType(64), ir.FloatType()
Emitted = tuple[Any, "Callable[[Any, Any, Any, Any], Any]"]
"""What numba asks for: the signature, and what emits the code."""


def _at_least(context: Any, values: Any, start: Any, bar: Any) -> Emitted | None:
    return _compared(values, types.float32, lambda builder, given, bars: builder.fcmp_ordered(">=", given, bars))


def _below(context: Any, values: Any, start: Any, bar: Any) -> Emitted | None:
    return _compared(values, types.uint32, lambda builder, given, bars: builder.icmp_unsigned("<", given, bars))


def _compared(values: Any, kind: Any, compare: Callable[[Any, Any, Any], Any]) -> Emitted | None:
    if values.layout != "C" or values.dtype != kind:
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        many = ir.VectorType(args[2].type, WORD)
        given = _load(builder, _place(context, builder, signature.args[0], args[0], [args[1]]), many)
        return builder.bitcast(compare(builder, given, _everywhere(builder, args[2], WORD)), _INT64)

    return types.uint64(values, types.int64, kind), generate


def _lowest_bit(context: Any, word: Any) -> Emitted:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(_INT1, 1))

    return types.int64(types.uint64), generate


def _count_below(context: Any, values: Any, count: Any, start: Any, out: Any) -> Emitted | None:
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


def _lane_product(context: Any, left: Any, i: Any, right: Any, j: Any) -> Emitted | None:
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


def _prefetch(context: Any, values: Any, index: Any) -> Emitted | None:
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


def _keep_best(context: Any, points: Any, row: Any, blocks: Any, block: Any, best: Any, which: Any) -> Emitted | None:
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


CODE: Mapping[str, Callable[..., Emitted | None]] = {
    "at_least": _at_least,
    "below": _below,
    "lowest_bit": _lowest_bit,
    "count_below": _count_below,
    "lane_product": _lane_product,
    "prefetch": _prefetch,
    "keep_best": _keep_best,
}
"""What makes each operation, by its name."""
