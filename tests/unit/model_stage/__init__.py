"""Tests of the modules of `model_stage`."""
