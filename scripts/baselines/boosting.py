"""Gradient boosted trees of scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

if TYPE_CHECKING:
    from store.types import F64, Bool


def fit_and_score(train: F64, label: Bool, test: F64, seed: int) -> F64:
    """Gives the probability of every test row after fitting the training rows.

    Args:
        train: (N, K); NaN = no such event, which the trees split on.
        label: (N,)
        test: (R, K)
        seed: Decides which rows the histogram's bins are taken from.
    """
    model = HistGradientBoostingClassifier(
        max_iter=200,
        learning_rate=0.05,
        max_leaf_nodes=15,
        # Without it a leaf that holds one of the few positives takes a huge value.
        l2_regularization=10.0,
        early_stopping=False,
        random_state=seed,
    )
    # scikit-learn cannot bin a column without any number.
    known = ~np.isnan(train).all(axis=0)
    probability: F64 = model.fit(train[:, known], label).predict_proba(test[:, known])[:, 1]
    return probability
