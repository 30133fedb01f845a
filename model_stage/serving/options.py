"""What a ranking server does beside answering, and how it asks the search stage."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from serving.options import PLAIN, ClientSecurity
from store.errors import InputError

MOST_EXPERIMENTS = 64
"""Each is a value of a label of metrics."""
_EXPERIMENT = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingOptions:
    """What a ranking server does beside answering, and how it asks the search stage.

    Raises:
        InputError: A value is not allowed; names the option.
    """

    experiments: tuple[str, ...] = ()
    """Names that a request may give as its experiment."""
    search_security: ClientSecurity = PLAIN
    """How to know the search stage, and how to be known by it."""
    served_log: Path | None = None
    """Folder to keep served requests in; None = none are kept."""
    served_share: float = 0.01
    """Share of requests to keep."""
    shadow_bundle: Path | None = None
    """Root of the bundles of a shadow; None = there is none."""
    shadow_share: float = 0.1
    """Share of requests that the shadow scores."""
    shadow_search: str | None = None
    """Address of a search stage of the shadow's own; None = it scores what was retrieved for the answer."""

    def __post_init__(self) -> None:
        for name in self.experiments:
            if not _EXPERIMENT.fullmatch(name):
                raise InputError(f"experiment: {name!r} is not 1 to 64 letters, digits, dots, hyphens and underscores")
        if len(self.experiments) > MOST_EXPERIMENTS:
            raise InputError(f"experiment: at most {MOST_EXPERIMENTS} names, got {len(self.experiments)}")
        for option, share in (("served-share", self.served_share), ("shadow-share", self.shadow_share)):
            if not 0 < share <= 1:
                raise InputError(f"{option}: must be above 0 and at most 1, is {share:g}")
        if self.shadow_search is not None and self.shadow_bundle is None:
            raise InputError("shadow-search: there is no --shadow-bundle to search for")

    def check_experiment(self, name: str) -> None:
        """Checks the experiment that a request names; empty = none.

        Raises:
            InputError: It is none of this server's; names the field.
        """
        if name and name not in self.experiments:
            known = ", ".join(self.experiments) or "none: start it with --experiment NAME"
            raise InputError(f"experiment: unknown experiment {name[:64]!r}; this server has {known}")
