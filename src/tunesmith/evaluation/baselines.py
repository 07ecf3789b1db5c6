"""What a model must beat to be worth its cost: the majority, and a linear model on words."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tunesmith.evaluation.metrics import Floats, one_hot

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# The commonest n-grams are kept, so that long documents by the hundred thousand still fit in memory.
MAX_FEATURES = 200_000
# Weak regularisation: inverse strength of the classifiers, strength of the ridge.
INVERSE_REGULARISATION = 10.0
RIDGE_STRENGTH = 1.0


@dataclass(frozen=True)
class Baseline:
    """What a cheap model says of the test rows.

    Attributes:
        name: short name for tables.
        answers: of the functions here float (n, C), the probability of each label, or (n,), the values, of targets
            that are numbers.
        seconds: fitting and predicting, wall time.
    """

    name: str
    answers: Any
    seconds: float


def tfidf_baseline(train_texts: Sequence[str], targets: NDArray[Any], test_texts: Sequence[str], seed: int) -> Baseline:
    """TF-IDF of word 1- and 2-grams with a linear model: one-vs-rest logistic regression, or ridge regression.

    Where the training texts have no words, or all the same label, it is the majority baseline under its own name.

    Args:
        train_texts: texts to learn from.
        targets: class ids int (n,), 0 and 1 (n, C) where a text may have several labels, or numbers float (n,).
        test_texts: what is predicted.
        seed: of the solver, where it uses one.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge

    start = time.perf_counter()
    name = f"TF-IDF + {'ridge' if _are_numbers(targets) else 'logistic'} regression"
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\w+", max_features=MAX_FEATURES, dtype=np.float64
    )
    try:
        train = vectorizer.fit_transform(train_texts)
    except ValueError:  # no word in any text
        return Baseline(name, majority_baseline(targets, len(test_texts)).answers, time.perf_counter() - start)
    test = vectorizer.transform(test_texts)
    if _are_numbers(targets):
        answers = Ridge(RIDGE_STRENGTH, random_state=seed).fit(train, targets).predict(test)
    else:
        answers = _one_vs_rest(train, _indicators(targets), test, seed)
        if targets.ndim == 1:
            answers /= answers.sum(axis=1, keepdims=True)
    return Baseline(name, answers, time.perf_counter() - start)


def majority_baseline(targets: NDArray[Any], num_rows: int) -> Baseline:
    """The frequency of each label in training, or the mean of numbers, for every one of `num_rows`.

    Args:
        targets: as in `tfidf_baseline`.
    """
    start = time.perf_counter()
    values = targets if _are_numbers(targets) else _indicators(targets)
    answers = np.repeat(values.mean(axis=0)[None], num_rows, axis=0)
    return Baseline("majority", answers, time.perf_counter() - start)


def _are_numbers(targets: NDArray[Any]) -> bool:
    return targets.ndim == 1 and np.issubdtype(targets.dtype, np.floating)


def _indicators(targets: NDArray[Any]) -> NDArray[Any]:
    return targets if targets.ndim == 2 else one_hot(targets, int(targets.max()) + 1)


def _one_vs_rest(train: csr_matrix, labels: NDArray[Any], test: csr_matrix, seed: int) -> Floats:
    """Probability (m, C) of each label on its own; a label that all or no training rows have keeps that share.

    liblinear's Newton steps on one label at a time need a quarter of the time of one multinomial fit by L-BFGS on
    77 classes, and score no worse.
    """
    from scipy.special import expit
    from sklearn.linear_model import LogisticRegression

    probabilities = np.empty((test.shape[0], labels.shape[1]))
    for label, column in enumerate(labels.T):
        if column.all() or not column.any():
            probabilities[:, label] = column[0]
            continue
        model = LogisticRegression(C=INVERSE_REGULARISATION, solver="liblinear", random_state=seed)
        probabilities[:, label] = expit(model.fit(train, column).decision_function(test))
    return probabilities
