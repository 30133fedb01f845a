"""Tests of lookback."""
