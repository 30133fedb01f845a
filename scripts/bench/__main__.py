"""Measures what lookback costs: `python -m scripts.bench store --json FILE`, and so on; `--help` lists all of them."""

from __future__ import annotations

import sys
from importlib import import_module

from store.command import command_line, run

BENCHMARKS = {
    "rank": "scripts.bench.rank.command",
    "search": "scripts.bench.search.command",
    "store": "scripts.bench.store.command",
    "index": "scripts.bench.index.command",
    "train": "scripts.bench.train.command",
    "cost": "scripts.bench.cost.command",
    "served": "scripts.bench.served.command",
    "overload": "scripts.bench.overload.command",
    "security": "scripts.bench.security",
}


def bench() -> None:
    """Measures what a part of lookback costs, and writes all numbers as JSON."""


def main() -> None:
    """Runs the benchmark that the command line names; without one, lists all of them."""
    # Imports only the benchmark that is run: the libraries of another would count as memory of this one.
    asked = [name for name in sys.argv[1:2] if name in BENCHMARKS]
    app = command_line(None, *(getattr(import_module(BENCHMARKS[name]), name) for name in asked or BENCHMARKS))
    app.callback()(bench)
    run(app)


if __name__ == "__main__":
    main()
