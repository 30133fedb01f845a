"""Where in a YAML file a key stands, for messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLine:
    """A key and the line it stands in, from 1."""

    key: str
    line: int


def find_repeated_key(text: str) -> KeyLine | None:
    """Gives the second place of a key that is given twice in one mapping: YAML readers silently take the last."""
    nodes = [yaml.compose(text, Loader=yaml.SafeLoader)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    return KeyLine(key=key.value, line=key.start_mark.line + 1)
                seen.add(str(key.value))
                nodes.append(value)
    return None


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
