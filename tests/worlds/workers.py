"""A server of several workers as its operator sees it: processes, log lines, the metrics page."""

from __future__ import annotations

import json
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import grpc
from prometheus_client.parser import text_string_to_metric_families

from tests.worlds.services import server_process


def workers_process(world, folder, *arguments, count=2):
    roots = ("--store", world.store, "--index", world.index)
    return server_process(folder, "search_stage", *roots, "--workers", str(count), *arguments)


def ranking_workers_process(world, folder, search_address, *arguments, count=2):
    roots = ("--bundle", world.bundle, "--search", search_address)
    return server_process(folder, "model_stage", *roots, "--workers", str(count), *arguments)


@contextmanager
def connections(process, number=8):
    """Connections of their own: the kernel spreads them over the workers."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    channels = [grpc.insecure_channel(process.address, options=options) for _ in range(number)]
    try:
        yield channels
    finally:
        for channel in channels:
            channel.close()


def events_of(process):
    whole, _, _ = process.log.read_text().rpartition("\n")  # of the last line perhaps not all is there
    lines = (line for line in whole.splitlines() if line.startswith("{"))
    return [event for event in map(json.loads, lines) if event["event"] != "request"]


def worker_pids(process):
    """Process ids by number, of the latest start of each."""
    return {event["worker"]: event["worker_pid"] for event in events_of(process) if event["event"] == "worker started"}


def runs(pid):
    """Whether a process has not ended, whether or not anybody has asked how."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def page(process):
    # One process says it when it serves, the supervisor of several before that.
    events = events_of(process)
    port = next(event["metrics_port"] for event in events if event["event"] == "metrics" or "worker" not in event)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return list(text_string_to_metric_families(answer.read().decode()))


def by_worker(process, name, **labels):
    """A metric's value for each worker."""
    samples = [sample for family in page(process) for sample in family.samples if sample.name == name]
    found = {}
    for sample in samples:
        if labels.items() <= sample.labels.items():
            found[sample.labels["worker"]] = found.get(sample.labels["worker"], 0) + sample.value
    return found


def wait_until(what, process):
    give_up_s = time.monotonic() + 60
    while not (found := what()):
        assert time.monotonic() < give_up_s, process.log.read_text()[-5000:]
        time.sleep(0.05)
    return found


def value_of(process, name, **labels):
    """The value of a metric of a server that is one process: its page is its own."""
    samples = [sample for family in page(process) for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())
