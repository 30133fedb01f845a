"""From ids, times and fields to the arrays the network reads: one path for training and serving."""
