"""What every preset costs: parameters, FLOPs, memory and time."""
