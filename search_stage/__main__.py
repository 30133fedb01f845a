"""Runs `lookback-search` as `python -m search_stage`."""

from search_stage.cli import main

main()
