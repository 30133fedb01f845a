"""What is done to break it: kills, full disks, flipped bits, bad messages. `make fault`; see docs/reliability.md."""
