"""What a ranking server does beside answering, and how it asks the search stage."""

from __future__ import annotations

import re
from dataclasses import dataclass

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

    def __post_init__(self) -> None:
        for name in self.experiments:
            if not _EXPERIMENT.fullmatch(name):
                raise InputError(f"experiment: {name!r} is not 1 to 64 letters, digits, dots, hyphens and underscores")
        if len(self.experiments) > MOST_EXPERIMENTS:
            raise InputError(f"experiment: at most {MOST_EXPERIMENTS} names, got {len(self.experiments)}")

    def check_experiment(self, name: str) -> None:
        """Checks the experiment that a request names; empty = none.

        Raises:
            InputError: It is none of this server's; names the field.
        """
        if name and name not in self.experiments:
            known = ", ".join(self.experiments) or "none: start it with --experiment NAME"
            raise InputError(f"experiment: unknown experiment {name[:64]!r}; this server has {known}")
