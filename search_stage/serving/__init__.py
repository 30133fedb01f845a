"""Stage one as a process: the only folder of the search stage that imports grpc or protos."""
