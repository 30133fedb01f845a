"""Audits of a published generation and the delta behind it."""
