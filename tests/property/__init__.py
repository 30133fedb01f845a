"""Fast paths against their plain twins, on random input (Hypothesis)."""
