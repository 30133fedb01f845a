"""The category tree as numbers in pre-order."""
