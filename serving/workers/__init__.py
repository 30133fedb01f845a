"""Several processes on one port: who starts them, starts them again and ends them."""
