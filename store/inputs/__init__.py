"""What is handed in: tables, rows, ids, times, and what is wrong with them."""
