"""Rebuilds a published index from a bundle's export and a store: the same function as `lookback-search build-index`.

For the offline job, a cron line: `python -m scripts.rebuild_index --export BUNDLES --store STORE --index INDEX`.
"""

from __future__ import annotations

import typer

from search_stage.cli import told
from search_stage.cli.index import build_index_command

if __name__ == "__main__":
    with told():
        typer.run(build_index_command)
