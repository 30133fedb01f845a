"""Networks that are also given the hand-made numbers of the trees: 49 of time and three cosines, as numeric fields."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model_stage.config.schema import NumericField
from scripts.baselines import similarity, times
from scripts.evidence.code import code_digest
from scripts.evidence.trees import inputs_of

if TYPE_CHECKING:
    from scripts.evidence.configuration import Configuration
    from scripts.evidence.shared import Shared

SUFFIX = "_52"
"""Of the names of presets that get them."""


def plain_name(preset: str) -> str:
    """Gives the preset's name without the suffix."""
    return preset.removesuffix(SUFFIX)


def with_fields(used: Configuration) -> Configuration:
    """Gives the configuration with a numeric field of candidates for each number."""
    fields = (
        *(NumericField(name=name, part="candidate", kind="numeric", transform="log1p") for name in times.NAMES),
        *(NumericField(name=name, part="candidate", kind="numeric") for name in similarity.NAMES),
    )
    schema = used.recipe.schema
    schema = schema.model_copy(update={"fields": (*schema.fields, *fields)})
    return replace(used, recipe=replace(used.recipe, schema=schema))


def with_columns(shared: Shared) -> Shared:
    """Gives the same with a dataset directory whose impressions have a column for each number; made once."""
    data = shared.data.with_name(f"{shared.data.name}{SUFFIX}-{code_digest(__name__)[:6]}")
    if not (data / "counts.json").is_file():
        shutil.copytree(shared.data, half := data.with_suffix(".half"), dirs_exist_ok=True)
        _, time, cosines = inputs_of(shared).blocks
        table = pq.read_table(half / "impressions.parquet")
        for names, block in ((times.NAMES, time), (similarity.NAMES, cosines)):
            for name, column in zip(names, np.asarray(block, np.float32).T, strict=True):
                table = table.append_column(name, pa.array(column, from_pandas=True))
        pq.write_table(table, half / "impressions.parquet")
        half.rename(data)
    return replace(shared, data=data)
