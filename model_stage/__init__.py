"""Stage two: target-decoupled attention over the retrieved behaviors; a library first, a thin service second."""
