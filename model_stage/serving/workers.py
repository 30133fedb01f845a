"""Stage two as several processes on one port; `python -m model_stage.serving.workers FILE` is one of them."""

from __future__ import annotations

from pathlib import Path

from model_stage.serving.options import RankingOptions
from serving import WorkerSpec, make_logger, run_worker


class RankingWorker(WorkerSpec):
    """The arguments of `model_stage.serving.server.serve`."""

    bundle_root: Path
    search_address: str
    ranking_options: RankingOptions = RankingOptions()

    def serve(self) -> None:
        """Serves."""
        from model_stage.serving.server import serve

        serve(self.bundle_root, self.search_address, self.options, self.ranking_options)

    def warm_up(self) -> None:
        """Opens the bundle, scores with it and drops it."""
        from model_stage.serving.server import warm_up_process

        warm_up_process(self.bundle_root)


if __name__ == "__main__":
    run_worker(RankingWorker, make_logger("ranking"))
