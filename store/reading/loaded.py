"""A generation with its files mapped, and how the delta's words and rows read in its terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from store.base.files import FILES, RECORDS_FILE, BaseReader
from store.base.meta import read_meta
from store.base.tables import CoverTable, FieldTable
from store.delta.layout import NO_WORDS
from store.errors import CorruptGenerationError
from store.taxonomy.resolve import NodeResolver
from store.taxonomy.taxonomy import Taxonomy
from store.types import Vocabulary
from store.vocabulary import extend_vocabulary, recode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from store.delta.layout import DeltaWords
    from store.publishing.generation import OpenedGeneration
    from store.vocabulary import Recode


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveWords:
    """The words of a generation and of the delta together. The codes of the generation stay what they are."""

    version: int
    """Of the delta's words."""
    vocabulary: Vocabulary
    resolver: NodeResolver
    recode: Recode
    """The delta's codes as those of `vocabulary`."""
    field_codes: Mapping[str, int]
    """The delta's code of each side-info field."""


class LoadedGeneration:
    """A generation with its files mapped. Immutable; shared by the store and its snapshots."""

    def __init__(self, opened: OpenedGeneration) -> None:
        """Maps the files of a generation that was checked.

        Raises:
            CorruptGenerationError: A file is not what the manifest or the format says.
        """
        self.name = opened.name
        self.path = opened.path
        self.meta = read_meta(opened)
        self.vocabulary = self.meta.vocabulary
        self.streams = tuple(
            (self.vocabulary.domains[domain], self.vocabulary.actions[action]) for domain, action in self.meta.streams
        )
        self.taxonomy = Taxonomy.load(opened.path / "taxonomy", self.meta.tree_domains)
        self.unmapped = self.taxonomy.unmapped
        self.items = FieldTable.load(opened.path / "items", self.meta.item_fields, self.meta.item_lists)
        self.users = FieldTable.load(opened.path / "users", self.meta.user_fields, self.meta.user_lists)
        self.covers = CoverTable.load(opened.path / "covers")
        self.data_file = opened.path / "base" / RECORDS_FILE
        for name in FILES:
            if f"base/{name}" not in opened.manifest.files:
                # Unlisted means unchecked, and a truncated file that is mapped kills the process.
                raise CorruptGenerationError(
                    f"{opened.path / 'base' / name}: not listed in the manifest; run `lookback-store ingest --replace`"
                )
        self.base = BaseReader(opened.path / "base")
        self._live = self._join(NO_WORDS)

    def live_words(self, words: DeltaWords) -> LiveWords:
        """Gives the words of this generation joined with those of the delta; remembers them until they change."""
        live = self._live
        if live.version != words.version:
            live = self._live = self._join(words)
        return live

    def _join(self, words: DeltaWords) -> LiveWords:
        live = Vocabulary(domains=words.domains, actions=words.actions, scenes=words.scenes)
        vocabulary = extend_vocabulary(self.vocabulary, live)
        return LiveWords(
            version=words.version,
            vocabulary=vocabulary,
            resolver=NodeResolver(self.taxonomy, vocabulary.domains),
            recode=recode(live, vocabulary),
            field_codes={name: code for code, (name, _) in enumerate(words.fields)},
        )
