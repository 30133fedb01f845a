"""The evidence table: presets x sets x seeds, each finished run a file: `python -m scripts.evidence --resume`."""
