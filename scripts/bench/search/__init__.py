"""What a search costs, in process, over the wire and by worker processes."""
