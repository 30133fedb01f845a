"""What a run has shown: by stage, by kind of request, by what became of it, and second by second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scripts.load.arrivals import starts_of
from scripts.load.plan import METHODS
from scripts.load.sending import DEGRADED, OK, OUTCOMES, REFUSED
from scripts.load.visitors import LENGTH_BOUNDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.load.arrivals import Stage
    from scripts.load.plan import Plan
    from scripts.load.sending import Outcome
    from store.types import F64, Bool

QUANTILES = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "p999_ms": 0.999, "max_ms": 1.0}
Row = dict[str, Any]


def latencies(seconds: F64) -> Row:
    """Gives percentiles, milliseconds, exact: every time was kept. None where there is no time."""
    if not len(seconds):
        return dict.fromkeys(QUANTILES)
    found = np.quantile(seconds, list(QUANTILES.values()), method="inverted_cdf") * 1000
    return dict(zip(QUANTILES, found.tolist(), strict=True))


def stage_rows(plan: Plan, outcome: Outcome, stages: Sequence[Stage]) -> list[Row]:
    """Gives one row a stage: rates of what became of the requests due in it, and the times of the good ones.

    Good is an answer in time that is not degraded: the goodput is those a second. `lag_p99_ms` is how late the senders
    were themselves; where it is not small beside the times, more of them are needed.
    """
    rows = []
    for number, stage in enumerate(stages):
        of_stage = plan.stage == number
        result = outcome.result[of_stage]
        counts = {
            "offered_per_s": len(result),
            "good_per_s": np.count_nonzero(result == OK),
            "degraded_per_s": np.count_nonzero(result == DEGRADED),
            "refused_per_s": np.count_nonzero(result == REFUSED),
            "failed_per_s": np.count_nonzero(~np.isin(result, (OK, DEGRADED, REFUSED))),
        }
        refused = latencies(outcome.latency_s[of_stage & (outcome.result == REFUSED)])
        lag = latencies(outcome.lag_s[of_stage])
        rows.append(
            {
                "stage": str(stage),
                "requests": len(result),
                **{name: count / stage.seconds for name, count in counts.items()},
                **latencies(outcome.latency_s[of_stage & (outcome.result == OK)]),
                "refused_p99_ms": refused["p99_ms"],
                "lag_p99_ms": lag["p99_ms"],
            }
        )
    return rows


def result_rows(outcome: Outcome) -> list[Row]:
    """Gives one row for each thing that became of requests: how many, and how long that took."""
    rows = []
    for number in np.unique(outcome.result).tolist():
        of_kind = outcome.result == number
        hinted = int(outcome.hinted[of_kind].sum())
        row = {"result": OUTCOMES[number], "requests": int(of_kind.sum()), "with_retry_hint": hinted}
        rows.append({**row, **latencies(outcome.latency_s[of_kind])})
    return rows


def kind_rows(plan: Plan, outcome: Outcome) -> list[Row]:
    """Gives one row for each method, number of candidates and class of histories' lengths that there was."""
    names, rows = tuple(METHODS), []
    for number in np.unique(plan.method).tolist():
        rows.append(_kind(f"method {names[number]}", plan.method == number, outcome))
    for size in np.unique(plan.size).tolist():
        rows.append(_kind(f"{size:,} candidates", plan.size == size, outcome))
    classes = np.searchsorted(LENGTH_BOUNDS, plan.length, side="right")
    for number in np.unique(classes).tolist():
        longest = "up" if number == len(LENGTH_BOUNDS) else f"{LENGTH_BOUNDS[number] - 1:,}"
        shortest = 0 if number == 0 else LENGTH_BOUNDS[number - 1]
        rows.append(_kind(f"{shortest:,} to {longest} behaviors", classes == number, outcome))
    return rows


def _kind(name: str, of_kind: Bool, outcome: Outcome) -> Row:
    good = of_kind & (outcome.result == OK)
    counts = {"requests": int(of_kind.sum()), "good_share": float(good.sum() / max(of_kind.sum(), 1))}
    return {"kind": name, **counts, **latencies(outcome.latency_s[good])}


def by_second(plan: Plan, outcome: Outcome, stages: Sequence[Stage]) -> dict[str, list[float | None]]:
    """Gives the run second by second, as columns; a request counts in the second in which it was due."""
    seconds = int(np.ceil(starts_of(stages)[-1]))
    at = np.minimum(plan.due_s.astype(np.int64), seconds - 1)
    kinds = {"good": outcome.result == OK, "degraded": outcome.result == DEGRADED, "refused": outcome.result == REFUSED}
    kinds["failed"] = ~np.isin(outcome.result, (OK, DEGRADED, REFUSED))
    columns: dict[str, list[float | None]] = {"second": list(range(seconds))}
    columns["offered"] = np.bincount(at, minlength=seconds).tolist()
    for name, rows in kinds.items():
        columns[name] = np.bincount(at[rows], minlength=seconds).tolist()
    each = [latencies(outcome.latency_s[kinds["good"] & (at == second)]) for second in range(seconds)]
    for name in ("p50_ms", "p99_ms"):
        columns[name] = [row[name] for row in each]
    return columns
