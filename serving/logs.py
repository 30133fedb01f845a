"""Logs as one JSON object a line on stderr."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, TextIO

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger

_USER = re.compile(r"\buser [0-9]+")
"""How our errors name a user."""


def make_logger(component: str, stream: TextIO | None = None, *, users: bool = False) -> FilteringBoundLogger:
    """Gives a logger of its own, without touching any global set-up: a library user's logging stays as it is.

    Args:
        component: Written into every line, as "search" or "ranking".
        stream: Where lines go; None = stderr.
        users: Whether lines may name users.
    """
    logger: FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(stream if stream is not None else sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            *(() if users else (_hide_users,)),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
    )
    return logger.bind(component=component)


def _hide_users(logger: object, method: str, line: EventDict) -> EventDict:
    return {
        name: _USER.sub("user (hidden; see --log-users)", value) if isinstance(value, str) else value
        for name, value in line.items()
    }
