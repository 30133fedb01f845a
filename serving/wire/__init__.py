"""Messages: one file for each .proto, both directions of a message in it; nothing else in serving imports protos."""
