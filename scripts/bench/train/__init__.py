"""What training costs: the loop, its memory, and a step as the tables grow."""
