"""Whether a server looks at one more request: in a burst it does; where too many stand all the time it does not."""

from __future__ import annotations

STANDING_S = 0.1
"""Where no fewer are in for that long, it is no burst."""
SHUT_S = 1.0
"""After the last that was turned away."""


class Valve:
    """Lets many requests in at once, but few while many keep coming. For one thread; the caller gives the time.

    So that what comes and goes at once, as streams that are reset, keeps nobody out; and what is asked beyond what can
    be answered is turned away before it costs anything (docs/adr/0025-admission-by-time.md).
    """

    def __init__(self, few: int, many: int) -> None:
        self._few = few
        self._many = many
        self._below_s = float("-inf")
        """When fewer than `few` were last seen."""
        self._shut_until_s = float("-inf")

    def turns_away(self, inside: int, now_s: float) -> bool:
        """Says whether a request that comes now is to be turned away.

        Args:
            inside: How many are in.
            now_s: The time; never less than before.
        """
        if inside < self._few:
            self._below_s = now_s
            return False
        if now_s - self._below_s >= STANDING_S:
            self._shut_until_s = now_s + SHUT_S
        if now_s < self._shut_until_s:
            self._shut_until_s = now_s + SHUT_S
            return True
        return inside >= self._many
