"""One request through retrieval, encoding and the network, in process."""
