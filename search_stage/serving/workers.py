"""Stage one as several processes on one port; `python -m search_stage.serving.workers FILE` is one of them."""

from __future__ import annotations

from pathlib import Path

from search_stage.config import SearchConfig
from serving import WorkerSpec, make_logger, run_worker


class SearchWorker(WorkerSpec):
    """The arguments of `search_stage.serving.server.serve`."""

    store_root: Path
    index_root: Path | None
    config: SearchConfig
    append: bool

    def serve(self) -> None:
        """Serves."""
        from search_stage.serving.server import serve

        serve(self.store_root, self.index_root, self.config, self.options, append=self.append)

    def warm_up(self) -> None:
        """Opens store and index, and closes them."""
        from search_stage.serving.server import warm_up_process

        warm_up_process(self.store_root, self.index_root, self.config)


if __name__ == "__main__":
    run_worker(SearchWorker, make_logger("search"))
