"""What ranking costs: a request over both services, the networks by themselves, and plainly written controls."""
