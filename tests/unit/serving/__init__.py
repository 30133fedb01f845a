"""Tests of the modules of `serving`."""
