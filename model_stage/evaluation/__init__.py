"""How well scores order and estimate: metrics, and intervals for their differences."""
