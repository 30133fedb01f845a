"""What an operator runs: verify, stats, export, backup."""
