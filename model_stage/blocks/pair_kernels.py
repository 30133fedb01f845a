"""Attention over the pairs of a batch, forward and backward, in one pass each: `pair_attention.py` has the formulas.

A candidate's scores, weights and sums stay in the first cache; rows of keys and values are read where they stand.

Legend: W attentions, B candidates, A attention width, R representation width, G groups of keys, H groups of values,
N buckets of all encodings, E encodings, M pairs; n pairs of one candidate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from store.compiled import kernel_any_order

if TYPE_CHECKING:
    from store.types import F32, I32, I64

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_LOWEST = np.float32(-87.0)
"""Below it e^x is no normal float32; 1.6e-38 is as good as nothing."""
_LOG2_E, _HALF = np.float32(1.44269504), np.float32(0.5)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_P0, _P1, _P2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
_P3, _P4, _P5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
_BIAS, _MANTISSA = np.int32(127), np.int32(23)


@kernel_any_order
def attend_kernel(
    query_WBA: F32,
    key_UGA: F32,
    bias_WBN: F32,
    value_UHR: F32,
    behavior_M: I32,
    offsets: I64,
    bucket_EM: I32,
    pooled_WBR: F32,
    share_WBN: F32,
    mass_WB: F32,
    weight_WM: F32,
) -> None:
    """Fills the last four, of which the first three are zero before.

    The exponential is 2^i times a polynomial of degree 6 (Cephes' expf), which a compiler can do for many at once: its
    error is below 2e-7 of the value.
    """
    num_attentions, num_candidates, width = query_WBA.shape
    per_key, per_value = num_attentions // key_UGA.shape[1], num_attentions // value_UHR.shape[1]
    longest = 0
    for b in range(num_candidates):
        longest = max(longest, offsets[b + 1] - offsets[b])
    power_n = np.empty(longest, np.int32)
    two_to_n = power_n.view(np.float32)
    for b in range(num_candidates):
        start, end = offsets[b], offsets[b + 1]
        row_n = behavior_M[start:end]
        for w in range(num_attentions):
            weight_n, query_A, bias_N = weight_WM[w, start:end], query_WBA[w, b], bias_WBN[w, b]
            for k in range(end - start):
                key_A = key_UGA[row_n[k], w // per_key]
                score = _ZERO
                for a in range(width):
                    score += key_A[a] * query_A[a]
                weight_n[k] = score
            for e in range(len(bucket_EM)):
                bucket_n = bucket_EM[e, start:end]
                for k in range(end - start):
                    weight_n[k] += bias_N[bucket_n[k]]
            highest = np.float32(-np.inf)
            for k in range(end - start):
                highest = max(highest, weight_n[k])
            for k in range(end - start):
                x = max(weight_n[k] - highest, _LOWEST)
                i = np.floor(x * _LOG2_E + _HALF)
                r = x - i * _LN2_HIGH - i * _LN2_LOW
                p = ((((_P0 * r + _P1) * r + _P2) * r + _P3) * r + _P4) * r + _P5
                weight_n[k] = p * r * r + r + _ONE
                power_n[k] = (np.int32(i) + _BIAS) << _MANTISSA
            total = _ZERO
            for k in range(end - start):
                weight_n[k] *= two_to_n[k]
                total += weight_n[k]
            if start == end:
                continue
            shift = max(highest, _ZERO)
            mass_WB[w, b] = shift + np.log(np.exp(-shift) + total * np.exp(highest - shift))
            pooled_R, share_N = pooled_WBR[w, b], share_WBN[w, b]
            for k in range(end - start):
                weight_n[k] /= total
                value_R = value_UHR[row_n[k], w // per_value]
                for r in range(len(pooled_R)):
                    pooled_R[r] += weight_n[k] * value_R[r]
            for e in range(len(bucket_EM)):
                bucket_n = bucket_EM[e, start:end]
                for k in range(end - start):
                    share_N[bucket_n[k]] += weight_n[k]


@kernel_any_order
def attend_backward_kernel(
    query_WBA: F32,
    key_UGA: F32,
    value_UHR: F32,
    behavior_M: I32,
    offsets: I64,
    bucket_EM: I32,
    mass_WB: F32,
    weight_WM: F32,
    d_pooled_WBR: F32,
    d_share_WBN: F32,
    d_mass_WB: F32,
    d_weight_WM: F32,
    d_query_WBA: F32,
    d_key_UGA: F32,
    d_bias_WBN: F32,
    d_value_UHR: F32,
) -> None:
    """Adds to the last four; `d_weight_WM` holds the gradients of the scores afterwards."""
    num_attentions, num_candidates, width = query_WBA.shape
    per_key, per_value = num_attentions // key_UGA.shape[1], num_attentions // value_UHR.shape[1]
    for b in range(num_candidates):
        start, end = offsets[b], offsets[b + 1]
        row_n = behavior_M[start:end]
        for w in range(num_attentions):
            weight_n, gradient_n, query_A = weight_WM[w, start:end], d_weight_WM[w, start:end], query_WBA[w, b]
            d_pooled_R, d_share_N, d_query_A = d_pooled_WBR[w, b], d_share_WBN[w, b], d_query_WBA[w, b]
            for k in range(end - start):
                value_R = value_UHR[row_n[k], w // per_value]
                gradient = _ZERO
                for r in range(len(d_pooled_R)):
                    gradient += value_R[r] * d_pooled_R[r]
                gradient_n[k] += gradient
            for e in range(len(bucket_EM)):
                bucket_n = bucket_EM[e, start:end]
                for k in range(end - start):
                    gradient_n[k] += d_share_N[bucket_n[k]]
            mean = _ZERO
            for k in range(end - start):
                mean += weight_n[k] * gradient_n[k]
            of_mass = d_mass_WB[w, b] * (_ONE - np.exp(-mass_WB[w, b]))
            for k in range(end - start):
                gradient_n[k] = weight_n[k] * (gradient_n[k] - mean + of_mass)
                key_A, d_key_A = key_UGA[row_n[k], w // per_key], d_key_UGA[row_n[k], w // per_key]
                d_value_R = d_value_UHR[row_n[k], w // per_value]
                for a in range(width):
                    d_query_A[a] += gradient_n[k] * key_A[a]
                    d_key_A[a] += gradient_n[k] * query_A[a]
                for r in range(len(d_pooled_R)):
                    d_value_R[r] += weight_n[k] * d_pooled_R[r]
            d_bias_N = d_bias_WBN[w, b]
            for e in range(len(bucket_EM)):
                bucket_n = bucket_EM[e, start:end]
                for k in range(end - start):
                    d_bias_N[bucket_n[k]] += gradient_n[k]
