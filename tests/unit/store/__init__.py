"""Tests of the modules of `store`."""
