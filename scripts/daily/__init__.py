"""The daily job, a step a module: `python -m scripts.daily --config FILE`. See docs/operations/daily.md."""
