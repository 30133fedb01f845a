"""Soft search: the behaviors nearest to the candidate by the inner product of attention vectors."""
