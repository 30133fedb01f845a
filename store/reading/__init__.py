"""The store as a reader sees it: a generation and the delta, read as one."""
