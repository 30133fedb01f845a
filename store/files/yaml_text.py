"""YAML that people write: everything that a reader would take silently for something else is refused, with its line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MEANS_ANOTHER = re.compile(r"[-+]?(0[0-9_]+|[1-9][0-9_]*(:[0-5]?[0-9])+)")
"""Integers in base 8 and 60, to a YAML reader."""


def parse_yaml(text: str) -> Any:  # noqa: ANN401 (what YAML holds)
    """Gives what a YAML text holds.

    Raises:
        InputError: It is no YAML or nested too deeply, gives a key twice (readers take the last, silently), or has a
            number with a leading zero or colons (readers take another one).
    """
    try:
        content = yaml.safe_load(text)
        nodes = yaml.compose(text, Loader=yaml.SafeLoader)
        problem = next(_problems(nodes), None)
    except yaml.YAMLError as exc:
        raise InputError(f"not YAML: {exc}") from exc
    except (RecursionError, ValueError, OverflowError) as exc:
        raise InputError(f"not YAML: {'it is nested too deeply' if isinstance(exc, RecursionError) else exc}") from exc
    if problem is not None:
        raise InputError(problem)
    return content


def _problems(top: yaml.Node | None) -> Iterator[str]:
    nodes, done = [top], set[int]()
    while nodes:
        node = nodes.pop()
        if id(node) in done:  # an alias
            continue
        done.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    yield f"{key.value}: is given twice (line {key.start_mark.line + 1})"
                seen.add(str(key.value))
                nodes.append(value)
        elif isinstance(node, yaml.ScalarNode) and node.tag.endswith(":int") and _MEANS_ANOTHER.fullmatch(node.value):
            read = yaml.safe_load(node.value)
            yield f"{node.value}: is {read} in YAML; write the number that is meant (line {node.start_mark.line + 1})"


def line_of(text: str, location: Sequence[str | int]) -> int:
    """Gives the line, from 1, of a key; of the deepest part of its path that the file has.

    Args:
        text: A YAML document that can be parsed.
        location: Keys and positions from the top, as pydantic gives them; parts that are no key there (the tag of a
            union) are passed over.
    """
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    line = 1
    for part in location:
        found = _child(node, part)
        if found is not None:
            line, node = found
    return line


def _child(node: yaml.Node | None, part: str | int) -> tuple[int, yaml.Node] | None:
    """Gives the line where a key or a list's element begins, and the node of its value."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        value = node.value[part]
        return value.start_mark.line + 1, value
    return None
