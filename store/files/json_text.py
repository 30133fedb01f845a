"""JSON that others write: everything that is no plain JSON is refused in one place, and by reason."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from store.errors import InputError


def parse_json(text: bytes | str) -> Any:  # noqa: ANN401 (what JSON holds)
    """Gives what a JSON text holds.

    Raises:
        InputError: It is no JSON in UTF-8, nested too deeply, gives a key twice (readers take the last, silently), has
            a number that JSON does not know, or half of a surrogate pair.
    """
    try:
        content = json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_constant)
        if ("\\u" if isinstance(text, str) else b"\\u") in text:  # type: ignore[operator]
            json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as exc:
        raise InputError("has half of a surrogate pair, and so is no text in UTF-8") from exc
    except RecursionError as exc:
        raise InputError("is no JSON (it is nested too deeply)") from exc
    except ValueError as exc:
        raise InputError(f"is no JSON ({exc})") from exc
    return content


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise InputError(f"is no plain JSON: {twice}: is given twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise InputError(f"is no JSON ({name} is no number of it; leave the value out)")
