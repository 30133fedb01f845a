"""Attention blocks, one file each, with a plain reference twin beside every fast path.

Over pairs (`pairs.AttentionInput`): tin, decoupled_side_info, stacked_tin, dare, din, sim_attention, twin, eta, pool.
Over lists (`sequence.ListInput`): sasrec, hstu, longer, linear_attention, sparse_attention, hierarchy, sdim,
memory_bank. What they share: pairs, sequence, position, simhash.
"""
