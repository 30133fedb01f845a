"""`python -m model_stage` is `lookback-model`."""

from model_stage.cli import main

main()
