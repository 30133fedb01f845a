"""Codes for the words of new events, kept only if an event needs them and the commit succeeds."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from store.delta.checksum import seal
from store.delta.layout import ACTION, DOMAIN, FIELD_BYTES, SCENE, word_key
from store.vocabulary import MAX_CODES, MAX_SCENES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from store.delta.layout import DeltaWords
    from store.fields import FieldKind
    from store.types import I64


class WordCodes:
    """Codes of one kind of word, the position in a list that grows. Not thread-safe.

    New words are provisional until `commit`: `forget_unused` drops those that no kept event uses, `abort` drops all.
    """

    def __init__(self, kind: str, limit: int, words: Sequence[str]) -> None:
        """Starts from what is stored.

        Args:
            kind: What they are, for reasons.
            limit: Number of words that there may be, those of the generation included.
            words: By code.
        """
        self._kind = kind
        self._limit = limit
        self._codes = {word: code for code, word in enumerate(words)}
        self._num_stored = len(self._codes)

    def take(self, words: Sequence[str], known: Sequence[str]) -> tuple[I64, dict[str, str]]:
        """Gives the code of each word, and why some words can have none.

        Args:
            words: One for each event. (N,)
            known: Words of the generation.

        Returns:
            Codes, -1 = none (N,), and the reason by word.
        """
        codes = self._codes
        refused: dict[str, str] = {}
        # Codes are given in the order in which words first appear.
        fresh = [word for word in dict.fromkeys(words) if word not in codes]
        if fresh:
            union = {*known, *codes}
            for word in fresh:
                if reason := self._why_not(word, union):
                    refused[word] = reason
                else:
                    union.add(word)
                    codes[word] = len(codes)
        found = map(codes.__getitem__, words) if not refused else (codes.get(word, -1) for word in words)
        return np.fromiter(found, np.int64, len(words)), refused

    def forget_unused(self, used: I64) -> I64 | None:
        """Drops new words that are not in use.

        Args:
            used: Codes in use.

        Returns:
            The new code of each old one, None when nothing changes.
        """
        new = range(self._num_stored, len(self._codes))
        dropped = set(new) - set(used.tolist()) if new else set()
        if not dropped:
            return None
        recode = np.cumsum([code not in dropped for code in range(len(self._codes))]) - 1
        self._codes = {word: int(recode[code]) for word, code in self._codes.items() if code not in dropped}
        return recode

    def new(self) -> list[tuple[int, str]]:
        """Gives the new words with their codes."""
        codes = range(self._num_stored, len(self._codes))
        return list(zip(codes, islice(self._codes, self._num_stored, None), strict=True)) if codes else []

    def commit(self) -> None:
        """Keeps the new words."""
        self._num_stored = len(self._codes)

    def abort(self) -> None:
        """Drops the new words."""
        if len(self._codes) > self._num_stored:
            self._codes = dict(islice(self._codes.items(), self._num_stored))

    def _why_not(self, word: str, union: set[str]) -> str:
        try:
            word.encode()
        except UnicodeEncodeError:
            return f"{self._kind}: {word!r} has half of a surrogate pair, and so is no text"
        if (word not in union and len(union) >= self._limit) or len(self._codes) >= self._limit:
            return f"{self._kind}: {word!r} would be one more than the {self._limit} different {self._kind}s allowed"
        return ""


class WriterWords:
    """All words of the delta, as its writer knows them."""

    def __init__(self, words: DeltaWords) -> None:
        """Starts from what is stored."""
        self.version = words.version
        self.domain = WordCodes("domain", MAX_CODES, words.domains)
        self.action = WordCodes("action", MAX_CODES, words.actions)
        self.scene = WordCodes("scene", MAX_SCENES, words.scenes)
        self._fields = {field: code for code, field in enumerate(words.fields)}
        self._num_fields = len(self._fields)

    def field(self, name: str, kind: FieldKind) -> int:
        """Gives the code of a side-info field, -1 when there are too many."""
        if (name, kind) not in self._fields and len(self._fields) < MAX_CODES:
            self._fields[name, kind] = len(self._fields)
        return self._fields.get((name, kind), -1)

    def new_items(self) -> Iterator[tuple[bytes, bytes]]:
        """Gives what is to be written."""
        for kind, codes in ((DOMAIN, self.domain), (ACTION, self.action), (SCENE, self.scene)):
            for code, word in codes.new():
                key = word_key(kind, code)
                yield key, seal(key, word.encode())
        for (name, field_kind), code in list(self._fields.items())[self._num_fields :]:
            key = word_key(FIELD_BYTES[field_kind], code)
            yield key, seal(key, name.encode())

    def commit(self, version: int) -> None:
        """Keeps the new words."""
        self.version = version
        self._num_fields = len(self._fields)
        for codes in (self.domain, self.action, self.scene):
            codes.commit()

    def abort(self) -> None:
        """Drops the new words."""
        self._fields = dict(list(self._fields.items())[: self._num_fields])
        for codes in (self.domain, self.action, self.scene):
            codes.abort()
