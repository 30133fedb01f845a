"""Each operation does what the line of Python in its docstring does."""

import numpy as np
import pytest
from numba import config
from numba.core.errors import TypingError

from search_stage.kernels.vector_ops import at_least, below, count_below, keep_best, lane_product, lowest_bit, prefetch
from search_stage.kernels.widths import BEST_LANES, BEST_ROWS, BEST_VECTORS, PLACES, WORD
from search_stage.soft.base import score_pairs
from store.compiled import kernel

is_compiled = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="plain Python takes any array")


@kernel
def _at_least(values, start, bar):
    return at_least(values, start, bar)


@kernel
def _lowest_bit(word):
    return lowest_bit(word)


@kernel
def _product(left, i, right, j):
    prefetch(right, (j, 0))
    return lane_product(left, i, right, j)


@pytest.mark.parametrize("start", [0, 1, 63])
def test_at_least_marks_what_reaches_the_bar(start):
    values = np.random.default_rng(start).integers(-3, 4, start + WORD).astype(np.float32)
    values[start + 5], values[start + 6], values[start + 7] = np.nan, np.inf, -np.inf
    for bar in (np.float32(0), np.float32(2.5), np.float32(-np.inf), np.float32(np.nan)):
        word = int(_at_least(values, start, bar))
        assert [bool(word >> bit & 1) for bit in range(WORD)] == (values[start:] >= bar).tolist()


@pytest.mark.parametrize("word", [1, 1 << 63, (1 << 64) - 1, 0b1011000])
def test_lowest_bit_of_a_word(word):
    assert _lowest_bit(np.uint64(word)) == (word & -word).bit_length() - 1


@pytest.mark.parametrize("dim", [1, 7, 8, 9, 31, 32, 40])
def test_lane_product_equals_the_definition_of_a_score_bit_by_bit(dim):
    draw = np.random.default_rng(dim)
    left, right = (draw.standard_normal((count, dim)).astype(np.float32) for count in (3, 5))
    left[0, 0], right[1] = 0.0, -0.0
    for i in range(len(left)):
        for j in range(len(right)):
            expected = score_pairs(left[i : i + 1], right[j : j + 1])
            assert np.float32(_product(left, i, right, j)).tobytes() == expected.tobytes()


@is_compiled
def test_tables_with_gaps_are_refused_when_a_kernel_is_compiled():
    table = np.zeros((4, 16), np.float32)[:, ::2]
    with pytest.raises(TypingError):
        _product(table, 0, table, 0)


@kernel
def _below(values, start, bar):
    return below(values, start, bar)


@pytest.mark.parametrize("start", [0, 3])
def test_below_marks_what_is_smaller_as_unsigned(start):
    values = np.random.default_rng(start).integers(0, 2**32, start + WORD, np.uint32)
    for bar in (np.uint32(0), values[start + 9], np.uint32(2**31), np.uint32(2**32 - 1)):
        word = int(_below(values, start, bar))
        assert [bool(word >> bit & 1) for bit in range(WORD)] == (values[start:] < bar).tolist()


@kernel
def _keep_best(points, row, blocks, block, best, which):
    keep_best(points, row, blocks, block, best, which)


@pytest.mark.parametrize("dim", [0, 1, 7, 32])
def test_keep_best_keeps_the_first_of_the_highest_scores_per_lane(dim):
    draw = np.random.default_rng(dim)
    # Small whole numbers: sums are exact in any order, and many scores are equal.
    points = draw.integers(-2, 3, (BEST_ROWS + 2, dim)).astype(np.float32)
    blocks = draw.integers(-2, 3, (3, 1 + dim, BEST_LANES * BEST_VECTORS)).astype(np.float32)
    best = np.full((len(points), BEST_LANES), -np.inf, np.float32)
    which = np.full(best.shape, -1, np.int32)
    for block in range(len(blocks)):
        _keep_best(points, 1, blocks, block, best, which)
    scores = (blocks[:, :1] + points @ blocks[:, 1:]).transpose(1, 0, 2).reshape(len(points), -1, BEST_LANES)
    touched = slice(1, 1 + BEST_ROWS)
    assert best[touched].tolist() == scores[touched].max(axis=1).tolist()
    assert which[touched].tolist() == scores[touched].argmax(axis=1).tolist()
    for row in (0, BEST_ROWS + 1):
        assert np.isneginf(best[row]).all()
        assert (which[row] == -1).all()


@is_compiled
def test_keep_best_refuses_blocks_with_gaps():
    table, which = np.zeros((BEST_ROWS, BEST_LANES), np.float32), np.zeros((BEST_ROWS, BEST_LANES), np.int32)
    blocks = np.zeros((4, 1 + BEST_LANES, BEST_LANES * BEST_VECTORS), np.float32)[::2]
    with pytest.raises(TypingError):
        _keep_best(table, 0, blocks, 0, table, which)


@kernel
def _count_below(values, count, start, out):
    count_below(values, count, start, out)


@pytest.mark.parametrize("count", [0, 1, 40, 70])
def test_count_below_counts_what_is_smaller_as_unsigned(count):
    values = np.random.default_rng(count).integers(0, 2**32, 5 + PLACES + 40, np.uint32)
    values[7] = values[6]
    out = np.full(len(values), 99, np.uint32)
    _count_below(values, count, 5, out)
    expected = [int(np.sum(values[:count] < value)) for value in values[5 : 5 + PLACES]]
    assert out.tolist() == [99] * 5 + expected + [99] * 40
