"""How a client calls a server: the options of its channels, how often it tries again, and when it does not even try."""
