"""One server process: the way into a method, its line, its status, its swaps and its end."""
