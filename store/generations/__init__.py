"""Immutable published versions: manifest, base, tables, and which of them are kept."""
