"""Several parts together: real processes, real ports, whole trainings."""
