"""One server process: the way into a method, its queue, its status, its swaps and its end."""
