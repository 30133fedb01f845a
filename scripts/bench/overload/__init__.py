"""What servers do when more is asked than they can do: the order of the line, goodput, refusals, recovery, fairness."""
