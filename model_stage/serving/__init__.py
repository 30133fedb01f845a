"""Stage two as a process, and the clients: the only folder of the model stage that imports grpc or protos."""
