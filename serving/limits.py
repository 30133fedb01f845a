"""How large a message may be, before anything is made of it."""

LARGEST_MESSAGE_BYTES = 16 * 2**20
"""For every method: 1,000 candidates with 1,000 covered products each fit."""

LARGEST_SMALL_MESSAGE_BYTES = 64 * 2**10
"""For methods that take a few numbers and words."""
