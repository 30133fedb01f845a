"""Generated data with known true probabilities: `python -m scripts.generate --out FOLDER`."""
