"""Complete Journey to the input contract: `python -m scripts.datasets.complete_journey --data FOLDER --out FOLDER`."""
