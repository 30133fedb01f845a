"""Hierarchical hard search: behaviors found by the taxonomy."""
