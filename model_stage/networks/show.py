"""The packaged presets as a table for people."""

from __future__ import annotations

from rich.table import Table

from model_stage.networks.preset import load_preset, preset_names


def presets_table() -> Table:
    """Gives a line for each packaged preset: what it is, the kinds of its blocks, and which tables training teaches."""
    table = Table("preset", "summary", "blocks", "tables", box=None, pad_edge=False)
    for name in preset_names():
        preset = load_preset(name)
        tables = "attention + representation" if preset.reads_attention else "representation"
        table.add_row(name, preset.summary, ", ".join(block.kind for block in preset.blocks) or "none", tables)
    return table
