from __future__ import annotations

import os

import numpy as np
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from serving import BulkHistogram, ServerMetrics

BOUNDS = (0, 1, 5, 20)


def test_many_values_at_a_time_are_counted_as_one_by_one():
    """Against the client library's own histogram, to the byte of the page."""
    values = np.random.default_rng(0).integers(0, 30, 500)
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    bulk = BulkHistogram("x", "Of x.", BOUNDS, ours)
    plain = Histogram("x", "Of x.", buckets=BOUNDS, registry=theirs)
    for part in np.array_split(values, 7):
        bulk.observe(part)
    bulk.observe(values[:0])
    for value in values.tolist():
        plain.observe(value)
    numbers = [line for line in generate_latest(theirs).decode().splitlines() if "_created" not in line]
    assert generate_latest(ours).decode().splitlines() == numbers


def test_the_process_tells_its_memory_and_its_files():
    registry = ServerMetrics().registry
    assert registry.get_sample_value("process_resident_memory_bytes") > 2**20
    assert registry.get_sample_value("process_open_fds") <= len(os.listdir("/proc/self/fd"))
