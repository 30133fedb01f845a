"""Vectors of half the size are served only where the validation split does not notice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model_stage.calibration import Calibration
from model_stage.config.targets import Target, Targets
from model_stage.training import served_type
from model_stage.training.served_type import fit_served_type
from store.dataset.impressions import Impressions

TARGETS = Targets(targets=(Target(name="click"), Target(name="buy")))
ROWS = 1000


class Network:
    """Notes what it is prepared with."""

    prepared = None

    def node_vectors(self, dtype):
        return dtype

    def prepare_for_serving(self, vectors):
        self.prepared = vectors


def impressions():
    draw = np.random.default_rng(0)
    labels = np.zeros((ROWS, 2), np.float32)  # nobody buys
    labels[:, 0] = draw.random(ROWS) < 0.3
    return Impressions(
        user=np.arange(ROWS, dtype=np.uint64) % 7,
        timestamp_ms=np.arange(ROWS),
        labels=labels,
        item=np.arange(ROWS, dtype=np.uint64),
        targets=TARGETS.names,
        fields={},
    )


@pytest.mark.parametrize(
    ("moved", "expected", "report_of"),
    [
        (lambda logits: logits, torch.bfloat16, "after"),
        (lambda logits: logits + np.float32(1e-6), torch.bfloat16, "after"),
        (lambda logits: logits + np.float32([0.01, 0.0]), torch.float32, "before"),  # all higher: calibration alone
        (lambda logits: logits + np.float32([0.0, 0.01]), torch.float32, "before"),  # of the other target
        (lambda logits: _swapped(logits), torch.float32, "before"),  # the order alone
    ],
    ids=["the same", "hardly", "calibration", "another target", "order"],
)
def test_half_the_size_is_served_where_nothing_moves(monkeypatch, moved, expected, report_of):
    known, network = impressions(), Network()
    logits = np.random.default_rng(1).normal(size=(ROWS, 2)).astype(np.float32)
    after = moved(logits)
    monkeypatch.setattr(served_type, "logits_by_row", lambda *_: after)
    dtype, metrics = fit_served_type(network, [], known, logits, Calibration(), TARGETS)
    assert network.prepared is torch.bfloat16
    assert dtype is expected
    reports = {
        name: served_type.calibrated_report(known, values, Calibration(), TARGETS)
        for name, values in (("before", logits), ("after", after))
    }
    for target in ("click", "buy"):
        np.testing.assert_equal(metrics["validation"][target], reports[report_of][target])
        for number in ("auc", "ece"):
            difference = abs(reports["after"][target][number] - reports["before"][target][number])
            assert metrics["bfloat16_drift"][target][number] == pytest.approx(np.nan_to_num(difference))


def _swapped(logits):
    """Exchanges the logits of the best positive and the worst negative of one bin: no bin's mean changes."""
    out, order = logits.copy(), np.argsort(logits[:, 0])
    within = order[ROWS // 2 : ROWS // 2 + 30]
    out[within, 0] = logits[within[::-1], 0]
    return out
