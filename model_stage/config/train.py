"""What `train:` in train.yaml may say."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from model_stage.config.schema import StrictModel


class TrainConfig(StrictModel):
    """How to train."""

    seed: int = 0
    """Of initial weights and of the order of requests; equal seeds give equal bundles on one machine."""
    max_epochs: int = Field(default=8, ge=1)
    patience: int = Field(default=2, ge=1)
    """Epochs without a better validation AUC (mean over targets) before training stops."""
    batch_candidates: int = Field(default=1024, ge=1)
    """Candidates per step, about."""
    batch_pairs: int = Field(default=1 << 18, ge=1)
    """Pairs of a candidate and a behavior per step at most, but for a single part of a request: a step with longer
    histories has fewer candidates, so that none takes much longer, or more memory, than the others."""
    request_candidates: int = Field(default=16, ge=1)
    """Candidates of one request per step at most: they share a user, and a step should see many users."""
    learning_rate: float = Field(default=2e-3, gt=0.0)
    tables: Literal["dense", "touched"] = "dense"
    """How Adam changes the large tables: tree nodes and categorical fields. `dense`: every row in every step.
    `touched`: the rows that the step's batch reads, so that a step costs what it touches; L2 and the moments then act
    on a row in those steps only. `dense` is faster up to about 150,000 rows of 16 numbers, beyond them `touched`
    (ADR 0016). The results on Complete Journey were made with `dense`. Of the attention table, a step changes the rows
    that it reads either way."""
    weight_decay: float = Field(default=1.0, ge=0.0)
    """Of the towers' weights (AdamW, decoupled from the gradient)."""
    embedding_l2: float = Field(default=1e-3, ge=0.0)
    """Penalty of the tables of representations and fields, part of the gradient; the small positional tables have none.
    Where there is little data it wins, and pulls an item to its category and a category to its parent. A decoupled
    decay would not: Adam takes full steps on rows that are seen once."""
    attention_rate: float = Field(default=5e-3, gt=0.0)
    """Of the attention table, which learns by `training/row_adagrad.py`: the root mean square of a row's first step. It
    has no penalty: nothing but the attention weights reads it, and what pulls its rows to nothing leaves soft search
    without an opinion (ADR 0022)."""
    averaging: float = Field(default=0.998, ge=0.0, lt=1.0)
    """Decay of the running average of the weights, which is what is evaluated and kept; 0 = the last weights."""
