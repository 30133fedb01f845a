"""What the behavior store costs, in time, memory and disk."""
