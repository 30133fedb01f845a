"""Command line of the generator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scripts.generate.dataset import Settings, generate, print_report
from scripts.generate.mechanisms import TAXONOMY, WORLDS
from store.command import command_line, run
from store.terminal import console


def main(
    out: Annotated[Path, typer.Option(help="Dataset directory to write.")],
    seed: Annotated[int, typer.Option(help="The same seed and sizes give the same files.")] = 0,
    users: Annotated[int, typer.Option(help="Number of users.")] = 1500,
    mean_behaviors: Annotated[int, typer.Option(help="Mean number of behaviors per user.")] = 1200,
    requests: Annotated[int, typer.Option(help="Number of requests, 11 to 20 candidates each.")] = 10_000,
    signal: Annotated[
        float, typer.Option(help="Strength of the signal; 0 = labels are noise at the same rates.")
    ] = 1.0,
    world: Annotated[str, typer.Option(help=f"What there is to find: {', '.join(WORLDS)}.")] = TAXONOMY,
) -> None:
    """Generates a dataset with known true probabilities and prints what they reach on the test split."""
    settings = Settings(
        seed=seed, users=users, mean_behaviors=mean_behaviors, requests=requests, signal=signal, world=world
    )
    with console().status("generating"):
        report = generate(settings, out)
    print_report(report)


if __name__ == "__main__":
    run(command_line(None, main))
