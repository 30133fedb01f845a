"""Retrieves the examples of a split: through the searcher that serves, as of each request's own time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from model_stage.encoding.ancestors import AncestorEncoder
from model_stage.encoding.encoder import RequestEncoder
from model_stage.errors import ConfigError
from model_stage.ranking.compatibility import find_field_mismatch, find_newest_mismatch
from model_stage.training.example_folder import ExampleKey, content_digest, files_digest
from model_stage.training.examples import Example
from model_stage.training.history import HistoryReader
from model_stage.training.impressions import requests_of
from store.errors import OutdatedGenerationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from model_stage.config.schema import Schema
    from model_stage.encoding.vocabulary import Vocabularies
    from model_stage.networks.preset import AuxiliaryLoss, Preset
    from model_stage.training.example_folder import ExampleFolder
    from model_stage.training.examples import Examples
    from model_stage.types import Retriever
    from store.dataset.impressions import Impressions
    from store.reading.snapshot import Snapshot
    from store.retrieval import SearchResult


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleSource:
    """Where the examples of a model come from."""

    schema: Schema
    preset: Preset
    """Says how much of the user's sequence to retrieve, and what its auxiliary loss reads."""
    vocabularies: Vocabularies
    snapshot: Snapshot
    """The store generation that the retriever reads."""
    retriever: Retriever
    """What will also serve."""
    folder: ExampleFolder

    def examples(
        self,
        split: str,
        impressions: Impressions,
        on_request: Callable[[int, int], None] = lambda done, total: None,
        *,
        with_histories: bool = False,
    ) -> Examples:
        """Gives the examples of a split: those that a run before has written, else retrieved and written now.

        Args:
            split: Name of the split.
            impressions: Its impressions, at least one.
            on_request: Called with (impressions done, impressions in all).
            with_histories: Whether the preset's auxiliary loss reads the whole history of each request besides.

        Raises:
            ConfigError: A field is of another kind than the schema says, or fewer newest behaviors come than are read.
            store.errors.OutdatedGenerationError: The store was replaced meanwhile.
            store.errors.FieldError: Behaviors of the store lack side-info that the schema names.
        """
        auxiliary, whole = self.preset.auxiliary if with_histories else None, self.preset.reads_history
        key = self._key(split, impressions, auxiliary)
        found = self.folder.find(key)
        if found is not None:
            on_request(len(impressions), len(impressions))
            return found
        encoder = RequestEncoder(self.schema, self.vocabularies)
        reader = None
        if auxiliary is not None or whole:
            encoders = AncestorEncoder(encoder, self.retriever)
            newest = None if auxiliary is None else auxiliary.newest
            reader = HistoryReader(snapshot=self.snapshot, encoder=encoders, newest=newest)
        made = retrieve_examples(
            impressions,
            self.schema,
            self.preset,
            self.retriever,
            encoder,
            on_request=on_request,
            histories=reader,
            check=self._check_generation,
        )
        return self.folder.write(key, made, None if reader is None else reader.users(impressions), whole=whole)

    def _key(self, split: str, impressions: Impressions, auxiliary: AuxiliaryLoss | None) -> ExampleKey:
        delta = self.snapshot.delta
        return ExampleKey(
            split=split,
            impressions=content_digest(impressions),
            schema=content_digest(self.schema.model_dump(mode="json")),
            vocabularies=content_digest(self.vocabularies),
            newest=self.preset.newest_read,
            histories="" if auxiliary is None else f"newest {auxiliary.newest or 'all'}",
            store=files_digest(self.snapshot.path.parents[1], "store", self.snapshot.generation),
            delta_sequence=0 if delta is None else delta.last_sequence,
            search=self.folder.search,
        )

    def _check_generation(self, found: SearchResult) -> None:
        if found.store_generation != self.snapshot.generation:
            raise OutdatedGenerationError(
                f"store {found.store_generation} answered a search, examples are of store {self.snapshot.generation}: "
                "it was replaced meanwhile; run this again"
            )


def retrieve_examples(
    impressions: Impressions,
    schema: Schema,
    preset: Preset,
    retriever: Retriever,
    encoder: RequestEncoder,
    *,
    on_request: Callable[[int, int], None] = lambda done, total: None,
    histories: HistoryReader | None = None,
    check: Callable[[SearchResult], None] = lambda found: None,
) -> Iterator[Example]:
    """Retrieves, as of each request's own time, and encodes; one example per request.

    Args:
        impressions: Labelled impressions.
        schema: Says which part each field belongs to.
        preset: Says how much of the user's sequence to retrieve.
        retriever: What will also serve.
        encoder: What will also serve.
        on_request: Called with (impressions done, impressions in all).
        histories: Says besides which rows of its user came before each request; None = nothing asks for it.
        check: Raises where an answer of search is not to be used.

    Raises:
        ConfigError: A field is of another kind than the schema says, or fewer newest behaviors come than are read.
        store.errors.FieldError: Behaviors of the store lack side-info that the schema names.
    """
    encoders = AncestorEncoder(encoder, retriever)
    done = 0
    for rows, request in requests_of(impressions, schema):
        found = retriever.search(request.query(newest=preset.newest_read, behavior_fields=schema.side_info))
        check(found)
        if (problem := find_field_mismatch(schema, found)) is not None:
            raise ConfigError(f"schema.yaml: {problem}")
        if (problem := find_newest_mismatch(preset, found)) is not None:
            raise ConfigError(f"train.yaml: {problem}")
        yield Example(
            encoded=encoders.encode(request, found)[0],
            labels=impressions.labels[rows],
            rows=rows,
            history=None if histories is None else histories.span(request),
        )
        done += len(rows)
        on_request(done, len(impressions))
