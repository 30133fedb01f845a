"""Baselines that any network has to beat, on fourteen numbers anybody can compute."""
