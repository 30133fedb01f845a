"""What servers do under too much load: `python -m scripts.bench overload --json FILE`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from scripts.bench.markdown import formatted
from scripts.bench.overload.orders import compare_orders
from scripts.bench.report import finish, new_facts, note
from store.command import JsonOption
from store.terminal import table

_ORDER_COLUMNS = {
    "order": "{row[order]}",
    "load": "{row[load]:g}",
    "goodput": "{row[goodput]:.2f}",
    "p50 of answers, ms": "{row[answered_p50_ms]:.0f}",
    "p99 of refusals, ms": "{row[refused_p99_ms]:.0f}",
    "worked for in vain": "{row[late]:.3f}",
}
LOADS = (0.7, 1.0, 1.5, 3.0, 6.0)


def overload(
    seconds: Annotated[float, typer.Option(min=1, help="Simulated time of each order at each load.")] = 60.0,
    seed: Annotated[int, typer.Option(help="Of the arrivals.")] = 1,
    json_file: JsonOption = None,
) -> None:
    """Simulates orders of waiting, prints what each answers in time, and writes all numbers as JSON."""
    facts = new_facts(f"overload --json FILE --seconds {seconds:g} --seed {seed}", Path(tempfile.gettempdir()))
    note("orders of waiting, simulated")
    rows = list(compare_orders(LOADS, seconds, seed))
    shown = table(*_ORDER_COLUMNS, rows=formatted(_ORDER_COLUMNS, rows))
    finish({**facts, "orders": rows}, (), json_file, None, shown)
