"""An HTML page of sections with text, tables and pictures, put together by `page.html`; it loads nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_stage.report.figures import Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class HtmlTable:
    """A table of text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One part of the page."""

    title: str
    texts: Sequence[str] = ()
    warnings: Sequence[str] = ()
    tables: Sequence[HtmlTable] = ()
    pictures: Sequence[Picture] = ()
    folded: Sequence[HtmlTable] = ()
    """Tables below the pictures, shown when they are asked for."""
    outcome: str = ""
    """Of a verdict."""
    reasons: Sequence[str] = ()


def render(title: str, lead: str, sections: Sequence[Section]) -> str:
    """Gives the page."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["anchor"] = _anchor
    template = environment.from_string((files("model_stage.report") / "page.html").read_text(encoding="utf-8"))
    return template.render(title=title, lead=lead, sections=sections)


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
