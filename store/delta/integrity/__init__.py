"""Checks the delta's file before LMDB walks it: a damaged file is a finding, never a crash."""
