"""What `lookback-store taxonomy check` says of a tree, its bridges and the items under it."""
