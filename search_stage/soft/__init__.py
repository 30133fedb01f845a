"""Soft search: behaviors found by the inner product of attention vectors, one engine a file."""
