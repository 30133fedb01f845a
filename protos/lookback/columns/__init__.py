"""Wire contracts of lookback: .proto files and the code generated from them, nothing hand-written."""
