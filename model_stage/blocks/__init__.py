"""Attention blocks, one file each, with a plain reference twin beside every fast path."""
