"""The immutable half of a store generation: users' records, side tables, names and what its manifest says of them."""
