"""What a model must beat to be worth its cost: the majority, and a linear model on words."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from tunesmith.evaluation.metrics import one_hot

Kind = Literal["classification", "multilabel", "regression"]
Text = str | tuple[str, str | None]

# The commonest n-grams are kept, so that long documents by the hundred thousand still fit in memory.
MAX_FEATURES = 200_000
# Weak regularisation: inverse strength of the classifiers, strength of the ridge.
INVERSE_REGULARISATION = 10.0
RIDGE_STRENGTH = 1.0


@dataclass(frozen=True)
class Baseline:
    """What a baseline predicts for the test rows.

    Attributes:
        name: short name for tables.
        description: what it is, in a sentence.
        predicted: class ids int64 (n,), bool (n, C) for multi-label, float64 (n,) for regression.
        probabilities: float64 (n, C), or None for regression.
        seconds: fitting and predicting, wall time.
    """

    name: str
    description: str
    predicted: NDArray[Any]
    probabilities: NDArray[np.float64] | None
    seconds: float


def tfidf_baseline(
    train_texts: Sequence[Text], train_labels: NDArray[Any], test_texts: Sequence[Text], kind: Kind, seed: int
) -> Baseline:
    """TF-IDF of word 1- and 2-grams with a linear model: one-vs-rest logistic regression, or ridge regression.

    Where the training texts have no words, or all the same label, it is the majority baseline under its own name.

    Args:
        train_texts: texts, or (text, text_pair) which are joined.
        train_labels: class ids int (n,), bool (n, C) for multi-label, floats (n,) for regression.
        test_texts: what is predicted.
        kind: the task.
        seed: of the solver, where it uses one.
    """
    start = time.perf_counter()
    linear = "ridge regression" if kind == "regression" else "logistic regression"
    name, description = f"TF-IDF + {linear}", f"TF-IDF of word 1- and 2-grams (sublinear) with {linear}"
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\w+", max_features=MAX_FEATURES, dtype=np.float64
    )
    try:
        train = vectorizer.fit_transform([_joined(text) for text in train_texts])
    except ValueError:  # no word in any text
        majority = majority_baseline(train_labels, len(test_texts), kind)
        return Baseline(name, description, majority.predicted, majority.probabilities, time.perf_counter() - start)
    test = vectorizer.transform([_joined(text) for text in test_texts])
    probabilities = None
    if kind == "regression":
        predicted = Ridge(RIDGE_STRENGTH, random_state=seed).fit(train, train_labels).predict(test)
    elif kind == "multilabel":
        probabilities = _one_vs_rest(train, train_labels, test, seed)
        predicted = probabilities >= 0.5
    else:
        probabilities = _one_vs_rest(train, _indicators(train_labels), test, seed)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        predicted = probabilities.argmax(axis=1)
    return Baseline(name, description, predicted, probabilities, time.perf_counter() - start)


def majority_baseline(train_labels: NDArray[Any], num_rows: int, kind: Kind) -> Baseline:
    """The commonest class (or the labels that at least half the rows have, or the mean) for every one of `num_rows`.

    Probabilities are the frequencies in training; labels as in `tfidf_baseline`.
    """
    start = time.perf_counter()
    if kind == "regression":
        predicted, probabilities = np.full(num_rows, np.mean(train_labels)), None
        description = "the mean of the training targets for every row"
    else:
        indicators = train_labels if kind == "multilabel" else _indicators(train_labels)
        probabilities = np.tile(indicators.mean(axis=0), (num_rows, 1))
        predicted = probabilities >= 0.5 if kind == "multilabel" else probabilities.argmax(axis=1)
        description = "the commonest training label for every row"
    return Baseline("majority", description, predicted, probabilities, time.perf_counter() - start)


def _joined(text: Text) -> str:
    return text if isinstance(text, str) else "\n".join(part for part in text if part)


def _indicators(ids: NDArray[np.integer]) -> NDArray[np.bool_]:
    return one_hot(ids, int(ids.max()) + 1)


def _one_vs_rest(
    train: sparse.csr_matrix, labels: NDArray[np.bool_], test: sparse.csr_matrix, seed: int
) -> NDArray[np.float64]:
    """Probability (m, C) of each label on its own; a label that all or no training rows have keeps that share.

    liblinear's Newton steps on one label at a time need a quarter of the time of one multinomial fit by L-BFGS on
    77 classes, and score no worse.
    """
    probabilities = np.empty((test.shape[0], labels.shape[1]))
    for label, column in enumerate(labels.T):
        if column.all() or not column.any():
            probabilities[:, label] = column[0]
            continue
        model = LogisticRegression(C=INVERSE_REGULARISATION, solver="liblinear", random_state=seed)
        probabilities[:, label] = special.expit(model.fit(train, column).decision_function(test))
    return probabilities
