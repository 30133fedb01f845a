"""What was served, kept for later: a share of requests with their answers, in Parquet files that training reads too."""
