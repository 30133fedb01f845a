"""Baselines that any network has to beat, on fourteen simple numbers."""
