"""Tokens and the file that lists them: who holds one, what it allows and until when; never the token itself.

    # id      caller   roles         expires     sha256 of the token                   options
    3f9c0a12  ads      rank          2027-05-30  sha256:9f86d081884c7d659a2feaa0c5...  in-flight=32
    71be44d0  monitor  -             never       sha256:2c26b46b68ffc68ff99b453c1d...

A token is `lookback_` + id + `_` + 256 random bits. Because nobody can guess those, one round of SHA-256 is enough: a
slow hash protects what people choose themselves.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from serving.errors import UnauthenticatedError
from serving.security.roles import Role
from store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PREFIX = "lookback"
LONGEST_TOKEN = 128
"""Characters; what is longer is not even hashed."""
HEADER = "# id      caller  roles  expires  sha256 of the token  options: in-flight=N\n"
_TOKEN = re.compile(rf"{PREFIX}_(?P<id>[0-9a-f]{{8}})_[A-Za-z0-9_-]{{43}}")
_CALLER = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_NOBODY = "0" * 64
"""Compared with where there is no such id, so that this takes as long as with one."""
MOST_IN_FLIGHT = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One line of the file."""

    id: str
    caller: str
    """Who holds the token: a service, never a person."""
    roles: frozenset[Role]
    """None of them: it may see health in detail and metrics, no more."""
    expires_s: float | None
    """Seconds since 1970 from which on it is refused; None = never."""
    digest: str
    """SHA-256 of the token, in hexadecimal digits."""
    in_flight: int | None = None
    """Calls of this caller that a process takes at once; None = as many as the queue takes."""

    def line(self) -> str:
        """Gives it as a line of the file."""
        roles = ",".join(sorted(self.roles)) or "-"
        until = (
            "never" if self.expires_s is None else f"{datetime.fromtimestamp(self.expires_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
        )
        limit = "" if self.in_flight is None else f"  in-flight={self.in_flight}"
        return f"{self.id}  {self.caller}  {roles}  {until}  sha256:{self.digest}{limit}"


def new_token(
    caller: str, roles: Sequence[Role], expires_s: float | None, in_flight: int | None = None
) -> tuple[str, Credential]:
    """Makes a token.

    Args:
        caller: Who is to hold it.
        roles: What it allows.
        expires_s: Seconds since 1970 from which on it is refused; None = never.
        in_flight: Calls of this caller at once; None = no limit of its own.

    Returns:
        The token, which only its holder should ever see, and its line for the file.

    Raises:
        InputError: The name of the caller is none.
    """
    if not _CALLER.fullmatch(caller):
        raise InputError(f"caller: {caller!r} must have 1 to 32 characters: a-z, 0-9, '.', '_', '-'")
    number = secrets.token_hex(4)
    token = f"{PREFIX}_{number}_{secrets.token_urlsafe(32)}"
    credential = Credential(
        id=number,
        caller=caller,
        roles=frozenset(roles),
        expires_s=expires_s,
        digest=_digest(token),
        in_flight=in_flight,
    )
    return token, credential


def find_credential(credentials: Mapping[str, Credential], token: str) -> Credential:
    """Gives the line that a token belongs to.

    Args:
        credentials: By id.
        token: As the caller gave it.

    Raises:
        UnauthenticatedError: There is none, or its time is over.
    """
    match = _TOKEN.fullmatch(token) if len(token) <= LONGEST_TOKEN else None
    found = credentials.get(match["id"]) if match is not None else None
    is_right = hmac.compare_digest(_digest(token[:LONGEST_TOKEN]), _NOBODY if found is None else found.digest)
    if found is None or not is_right:
        raise UnauthenticatedError("unknown_token", "the token is not one of this service's")
    if found.expires_s is not None and time.time() >= found.expires_s:
        raise UnauthenticatedError("expired", "the token has expired")
    return found


def read_tokens(path: Path) -> dict[str, Credential]:
    """Reads a file of tokens, by id.

    Raises:
        InputError: It cannot be read or understood; names the line, and never shows what stands there.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "is no text"
        raise InputError(f"tokens: {path}: {reason}") from exc
    found: dict[str, Credential] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            credential = _parse(words)
        except ValueError as exc:
            raise InputError(f"tokens: {path}:{number}: {exc}") from exc
        if credential.id in found:
            raise InputError(f"tokens: {path}:{number}: the id {credential.id} stands there twice")
        found[credential.id] = credential
    if not found:
        raise InputError(f"tokens: {path}: has no token, so nobody could call; `lookback-search token` makes one")
    return found


def _parse(words: Sequence[str]) -> Credential:
    if len(words) < 5:
        raise ValueError(f"expected id, caller, roles, expiry and sha256, got {len(words)} words")
    number, caller, roles, expires, digest, *options = words
    match = _DIGEST.fullmatch(digest)
    if not re.fullmatch(r"[0-9a-f]{8}", number):
        raise ValueError("the id must be 8 hexadecimal digits")
    if not _CALLER.fullmatch(caller):
        raise ValueError("the caller must have 1 to 32 characters: a-z, 0-9, '.', '_', '-'")
    if match is None:
        raise ValueError("the fifth word must be sha256: and 64 hexadecimal digits")
    return Credential(
        id=number,
        caller=caller,
        roles=parse_roles(roles),
        expires_s=parse_expiry(expires),
        digest=match[1],
        in_flight=_parse_options(options),
    )


def parse_roles(text: str) -> frozenset[Role]:
    """Reads roles with commas between them; "-" = none.

    Raises:
        ValueError: One is unknown; says which there are.
    """
    try:
        return frozenset() if text == "-" else frozenset(map(Role, text.split(",")))
    except ValueError:
        raise ValueError(f"roles must be of {', '.join(Role)}, with commas between them, or -") from None


def parse_expiry(text: str) -> float | None:
    """Reads "never", a date or a time in UTC, as seconds since 1970.

    Raises:
        ValueError: It is none of them.
    """
    if text == "never":
        return None
    try:
        time_of = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("the expiry must be a date as 2027-05-30, a time as 2027-05-30T12:00:00Z, or never") from None
    return (time_of if time_of.tzinfo else time_of.replace(tzinfo=UTC)).timestamp()


def _parse_options(options: Sequence[str]) -> int | None:
    if not options:
        return None
    match = re.fullmatch(r"in-flight=([0-9]{1,6})", options[0])
    if len(options) > 1 or match is None or not 1 <= int(match[1]) <= MOST_IN_FLIGHT:
        raise ValueError("the only option is in-flight=N, N from 1 up")
    return int(match[1])


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
