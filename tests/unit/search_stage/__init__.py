"""Tests of the modules of `search_stage`."""
