"""The one operation of attention over pairs: several attentions side by side, softmax within each candidate.

    s_i    = <key_i, query> + sum_e bias[bucket_e(i)]         i: the pairs of a candidate; one sum per attention
    a      = softmax(s)                                       mass = log(1 + sum_i exp(s_i))
    pooled = sum_i a_i value_i                                share[n] = sum of a_i over the pairs of bucket n

So a row of a bucket costs a product per candidate and not one per pair, on both sides: scores come in as `bias`, and
`share` times the table is what the rows add to the sum. Neither keys nor values are copied to pairs.

`attend` picks the path: on a CPU, float32, one compiled kernel per pass (`pair_kernels.py`), as the torch operation
`lookback::pair_attention`; elsewhere `attend_padded`, in torch. ADR 0014 has what was measured.

Legend: W attentions, B candidates, U rows, M pairs, A attention width, R representation width, G and H groups of keys
and values (attention w reads group w G / W, w H / W), N buckets of all encodings, E encodings; T pairs of the longest
list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from model_stage.blocks.pair_kernels import attend_backward_kernel, attend_kernel

if TYPE_CHECKING:
    Found = tuple[Tensor, Tensor, Tensor, Tensor]
    """pooled (W, B, R), share (W, B, N), mass (W, B), weights (W, M)."""


def attend(
    query_WBA: Tensor,
    key_UGA: Tensor,
    bias_WBN: Tensor,
    value_UHR: Tensor,
    behavior_M: Tensor,
    offsets: Tensor,
    bucket_EM: Tensor,
) -> Found:
    """Attends; see the module docstring. Everything is float32 or better, whatever the inputs are.

    Args:
        query_WBA: Queries, scaled.
        key_UGA: Keys of the rows. W is a multiple of G.
        bias_WBN: What each bucket adds to a score, scaled.
        value_UHR: Values of the rows. W is a multiple of H.
        behavior_M: Row of each pair. int32.
        offsets: Pairs of each candidate. int64 (B + 1,).
        bucket_EM: Bucket, 0 .. N - 1, of each pair under each encoding. int32.

    Returns:
        pooled, share and mass, zeros where a candidate has no pairs, and the weights.
    """
    floats = (query_WBA, key_UGA, bias_WBN, value_UHR)
    dtype = torch.float32
    for values in floats:
        dtype = torch.promote_types(dtype, values.dtype)
    query_WBA, key_UGA, bias_WBN, value_UHR = (values.to(dtype) for values in floats)
    on_cpu = query_WBA.device.type == "cpu" and dtype == torch.float32
    with torch.autocast(query_WBA.device.type, enabled=False):
        return (_pair_attention if on_cpu else attend_padded)(
            query_WBA, key_UGA, bias_WBN, value_UHR, behavior_M, offsets, bucket_EM
        )


def attend_padded(
    query_WBA: Tensor,
    key_UGA: Tensor,
    bias_WBN: Tensor,
    value_UHR: Tensor,
    behavior_M: Tensor,
    offsets: Tensor,
    bucket_EM: Tensor,
) -> Found:
    """The same in torch, on a rectangle (B, T) of pairs; differentiable by itself."""
    num_attentions, num_candidates, _ = query_WBA.shape
    lengths_B = offsets.diff()
    longest = int(lengths_B.max()) if num_candidates else 0
    place_T = torch.arange(longest, device=offsets.device)
    valid_BT = place_T < lengths_B[:, None]
    pair_BT = (offsets[:-1, None] + place_T).where(valid_BT, 0)
    if not len(behavior_M):
        mass_WB = (query_WBA.sum(2) + bias_WBN.sum(2)) * 0.0
        pooled_WBR = mass_WB[:, :, None] * value_UHR.new_zeros(value_UHR.shape[2])
        return pooled_WBR, torch.zeros_like(bias_WBN), mass_WB, query_WBA.new_zeros(num_attentions, 0)
    row_BT = behavior_M.index_select(0, pair_BT.flatten()).view(pair_BT.shape)
    key_BTGA, value_BTHR = (
        rows.index_select(0, row_BT.flatten()).view(*row_BT.shape, *rows.shape[1:]) for rows in (key_UGA, value_UHR)
    )
    per_key, per_value = num_attentions // key_UGA.shape[1], num_attentions // value_UHR.shape[1]
    query_GVBA = query_WBA.view(key_UGA.shape[1], per_key, *query_WBA.shape[1:])
    score_WBT = torch.einsum("gvba,btga->gvbt", query_GVBA, key_BTGA).flatten(0, 1)
    cell_EWBT = [bucket_M[pair_BT].long().expand(num_attentions, -1, -1) for bucket_M in bucket_EM]
    for cell_WBT in cell_EWBT:
        score_WBT = score_WBT + bias_WBN.gather(2, cell_WBT)
    score_WBT = score_WBT.masked_fill(~valid_BT, -torch.inf)
    nothing_WB1 = score_WBT.new_zeros((num_attentions, num_candidates, 1))
    mass_WB = torch.logsumexp(torch.cat([score_WBT, nothing_WB1], dim=2), dim=2)
    weight_WBT = torch.softmax(score_WBT.masked_fill((lengths_B == 0)[:, None], 0.0), dim=2) * valid_BT
    weight_HVBT = weight_WBT.view(value_UHR.shape[1], per_value, *weight_WBT.shape[1:])
    pooled_WBR = torch.einsum("hvbt,bthr->hvbr", weight_HVBT, value_BTHR).flatten(0, 1)
    share_WBN = torch.zeros_like(bias_WBN)
    for cell_WBT in cell_EWBT:
        share_WBN = share_WBN.scatter_add(2, cell_WBT, weight_WBT)
    return pooled_WBR, share_WBN, mass_WB, weight_WBT[:, valid_BT]


@torch.library.custom_op("lookback::pair_attention", mutates_args=())
def _pair_attention(
    query_WBA: Tensor,
    key_UGA: Tensor,
    bias_WBN: Tensor,
    value_UHR: Tensor,
    behavior_M: Tensor,
    offsets: Tensor,
    bucket_EM: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    num_attentions, num_candidates, _ = query_WBA.shape
    pooled_WBR = query_WBA.new_zeros((num_attentions, num_candidates, value_UHR.shape[2]))
    share_WBN, mass_WB = torch.zeros(bias_WBN.shape), query_WBA.new_zeros((num_attentions, num_candidates))
    weight_WM = query_WBA.new_empty((num_attentions, len(behavior_M)))
    read = (query_WBA, key_UGA, bias_WBN, value_UHR, behavior_M, offsets, bucket_EM)
    _run(attend_kernel, *read, pooled_WBR, share_WBN, mass_WB, weight_WM)
    return pooled_WBR, share_WBN, mass_WB, weight_WM


@torch.library.custom_op("lookback::pair_attention_backward", mutates_args=())
def _pair_attention_backward(
    query_WBA: Tensor,
    key_UGA: Tensor,
    value_UHR: Tensor,
    behavior_M: Tensor,
    offsets: Tensor,
    bucket_EM: Tensor,
    mass_WB: Tensor,
    weight_WM: Tensor,
    d_pooled_WBR: Tensor,
    d_share_WBN: Tensor,
    d_mass_WB: Tensor,
    d_weight_WM: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    made = [torch.zeros(of.shape) for of in (query_WBA, key_UGA, d_share_WBN, value_UHR)]
    read = (query_WBA, key_UGA, value_UHR, behavior_M, offsets, bucket_EM, mass_WB, weight_WM)
    _run(attend_backward_kernel, *read, d_pooled_WBR, d_share_WBN, d_mass_WB, d_weight_WM.clone(), *made)
    d_query_WBA, d_key_UGA, d_bias_WBN, d_value_UHR = made
    return d_query_WBA, d_key_UGA, d_bias_WBN, d_value_UHR


def _run(kernel: Any, *tensors: Tensor) -> None:  # noqa: ANN401 -- compiled
    kernel(*(tensor.detach().contiguous().numpy() for tensor in tensors))


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Found) -> None:  # noqa: ANN401 -- torch's context
    query_WBA, key_UGA, _, value_UHR, behavior_M, offsets, bucket_EM = inputs
    _, _, mass_WB, weight_WM = output
    ctx.save_for_backward(query_WBA, key_UGA, value_UHR, behavior_M, offsets, bucket_EM, mass_WB, weight_WM)


def _backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 -- torch's context
    d_query_WBA, d_key_UGA, d_bias_WBN, d_value_UHR = _pair_attention_backward(*ctx.saved_tensors, *gradients)
    return d_query_WBA, d_key_UGA, d_bias_WBN, d_value_UHR, None, None, None


_pair_attention.register_autograd(_backward, setup_context=_keep)
