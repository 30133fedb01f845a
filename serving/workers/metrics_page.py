"""The metrics of all workers on one page, each sample with the number of its worker."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.request import urlopen

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from serving.workers.worker import WorkerProcess

_TIMEOUT_S = 2.0


class WorkerPages(Collector):
    """Reads the page of every worker when it is asked, and shows what it found under the label `worker`."""

    def __init__(self, workers: Sequence[WorkerProcess]) -> None:
        """Shows some workers."""
        self._workers = workers

    def collect(self) -> Iterable[Metric]:
        """Gives the workers' metrics, and which of them serve. One that does not answer in time is left out."""
        up = GaugeMetricFamily("lookback_worker_up", "1 while the worker serves.", labels=["worker"])
        restarts = CounterMetricFamily(
            "lookback_worker_restarts", "Times the worker was started again.", labels=["worker"]
        )
        merged: dict[str, Metric] = {}
        for worker in self._workers:
            label, text = str(worker.number), _read_page(worker)
            up.add_metric([label], text is not None)
            restarts.add_metric([label], worker.restarts)
            for family in text_string_to_metric_families(text or ""):
                whole = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    whole.add_sample(sample.name, {"worker": label, **sample.labels}, sample.value)
        return [up, restarts, *merged.values()]


def _read_page(worker: WorkerProcess) -> str | None:
    report = worker.report
    if report is None or report.metrics_port is None:
        return None
    try:
        with urlopen(f"http://127.0.0.1:{report.metrics_port}/metrics", timeout=_TIMEOUT_S) as page:
            text: str = page.read().decode()
            return text
    except OSError:
        return None
