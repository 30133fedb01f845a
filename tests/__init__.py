"""Tests of lookback; the folders say what kind, and shared fixtures stand in `tests/worlds`."""
