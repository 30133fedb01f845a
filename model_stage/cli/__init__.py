"""`lookback-model`: train, evaluate, serve and ask. A composition root: it joins the two stages."""

from __future__ import annotations

from model_stage.cli import bundle, doctor, explain, precompile, rank, replay, report, serve, targets, train
from serving.security.command import token
from store.command import command_line, run

app = command_line(
    "Stage two: target-decoupled attention ranking.",
    train.train,
    train.evaluate,
    train.presets,
    report.report,
    serve.serve,
    rank.rank,
    replay.replay,
    replay.warm_requests,
    replay.join_labels,
    explain.explain,
    token,
    precompile.compile,
    doctor.doctor,
    bundle=command_line(bundle.__doc__, bundle.show, bundle.diff, bundle.verify, bundle.rollback),
    targets=command_line(targets.__doc__, targets.check, targets.show),
)


def main() -> None:
    """Runs the command line."""
    run(app)
