"""Feature extraction: the backbone runs once, and the head is solved to its optimum by regularised linear models.

The solution is written into the model's own last linear layer, the standardisation of the vectors folded into its
weights, so that the result is an ordinary model.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import threadpoolctl
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold, StratifiedKFold
from torch import nn

from tunesmith.config.schema import TrainingSettings
from tunesmith.errors import DataError
from tunesmith.methods.base import Defaults, Method, train_only
from tunesmith.models.heads import final_linear

STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Inverse regularisation strengths that cross-validation chooses from, on standardised vectors."""
FOLDS = 3
# Above this many rows the strength is chosen on a sample: it hardly moves, and each fit costs rows x labels x hidden.
ROWS_FOR_STRENGTH = 10_000
ONE_THREAD = 2_000_000_000
"""Products (rows x labels x hidden) below which the threads of the linear algebra cost more than they bring."""

Solution = tuple[np.ndarray, np.ndarray, float]
"""Weights (labels, hidden), biases (labels,), inverse regularisation strength."""


class FeatureExtraction(Method):
    """Freeze the backbone and solve for the last linear layer."""

    name = "features"
    title = "frozen features, linear head"
    own = ()
    solves_head = True

    def defaults(self, model: nn.Module, rows: int) -> Defaults:
        return replace(super().defaults(model, rows), epochs=1)

    def apply(self, model: nn.Module) -> nn.Module:
        final = {id(parameter) for parameter in final_linear(model).parameters()}
        train_only(model, (name for name, parameter in model.named_parameters() if id(parameter) in final))
        return model

    def solve(
        self, model: nn.Module, vectors: np.ndarray, targets: np.ndarray, training: TrainingSettings, originals: int
    ) -> dict[str, float]:
        linear = final_linear(model)
        # Without a bias (decoders) a shift cannot be written into the layer, so the vectors are scaled but not centred.
        centred = linear.bias is not None
        mean = vectors.mean(axis=0) if centred else np.zeros(vectors.shape[1], dtype=vectors.dtype)
        scale = vectors.std(axis=0)
        scale[scale < 1e-6] = 1.0
        standardised = ((vectors - mean) / scale).astype(np.float32)
        solver = _Solver(training, centred, standardised, originals)
        small = standardised.size * linear.out_features < ONE_THREAD
        with threadpoolctl.threadpool_limits(1 if small else torch.get_num_threads()), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # at the iteration limit the loss is flat
            if targets.ndim == 2:
                weight, bias, strength = solver.multilabel(targets)
            elif np.issubdtype(targets.dtype, np.floating):
                weight, bias, strength = solver.regression(targets)
            else:
                weight, bias, strength = solver.classes(targets, linear.out_features)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy((weight / scale).astype(np.float32)))
            if centred:
                linear.bias.copy_(torch.from_numpy((bias - weight @ (mean / scale)).astype(np.float32)))
        return {"inverse_regularisation": strength}


@dataclass(frozen=True)
class _Solver:
    """Regularised linear models on standardised vectors x (n, hidden); each returns weights, biases and strength.

    Attributes:
        originals: the first rows, on which the strength is chosen.
    """

    training: TrainingSettings
    intercept: bool
    x: np.ndarray
    originals: int

    @property
    def row_weights(self) -> np.ndarray | None:
        """Equal weights whose sum is that of the original rows: the strength means the same however many were added."""
        rows = len(self.x)
        return None if rows == self.originals else np.full(rows, self.originals / rows)

    def classes(self, y: np.ndarray, num_labels: int) -> Solution:
        if len(np.unique(y)) < 2:
            raise DataError("features: the training rows have one class only; at least two are needed")
        strength = self._choose_strength(y)
        fitted = self._logistic(strength).fit(self.x, y, self.row_weights)
        # A class without training rows is never predicted.
        weight, bias = np.zeros((num_labels, self.x.shape[1])), np.full(num_labels, -1e2)
        if len(fitted.classes_) == 2:  # one row of coefficients stands for both classes
            weight[fitted.classes_] = np.vstack([-fitted.coef_[0], fitted.coef_[0]]) / 2
            bias[fitted.classes_] = np.array([-1, 1]) * fitted.intercept_ / 2
        else:
            weight[fitted.classes_], bias[fitted.classes_] = fitted.coef_, fitted.intercept_
        return weight, bias, strength

    def multilabel(self, y: np.ndarray) -> Solution:
        weight, bias = np.zeros((y.shape[1], self.x.shape[1])), np.zeros(y.shape[1])
        columns = y.T.astype(np.int64)
        # One strength for all labels, chosen on the most balanced one, where the choice is least noisy.
        carried = columns[:, : self.originals].sum(axis=1)
        strength = self._choose_strength(columns[np.minimum(carried, self.originals - carried).argmax()])
        for label, column in enumerate(columns):
            if len(np.unique(column)) < 2:  # a label that all rows or none carry
                bias[label] = 1e2 if column[0] else -1e2
                continue
            fitted = self._logistic(strength).fit(self.x, column, self.row_weights)
            weight[label], bias[label] = fitted.coef_[0], fitted.intercept_[0]
        return weight, bias, strength

    def regression(self, y: np.ndarray) -> Solution:
        x, y, own = self.x.astype(np.float64), y.astype(np.float64), self.originals
        alphas = own / 1e3 / np.asarray(STRENGTHS)
        fitted = RidgeCV(alphas=alphas, fit_intercept=self.intercept).fit(x[:own], y[:own])
        alpha = float(fitted.alpha_)
        if own < len(x):
            fitted = Ridge(alpha, fit_intercept=self.intercept).fit(x, y, self.row_weights)
        return fitted.coef_[None, :], np.array([fitted.intercept_]), 1.0 / alpha

    def _choose_strength(self, y: np.ndarray) -> float:
        """The strength with the lowest cross-validated log loss; with classes too rare for every fold, plain folds.

        scikit-learn's own search took 4.9 s of processor time on 10,000 rows of 77 labels, this one 3.2 s.
        """
        x, y, seed = self.x[: self.originals], y[: self.originals], self.training.seed
        folds = min(FOLDS, len(x))
        if folds < 2:
            return STRENGTHS[-1]
        if len(x) > ROWS_FOR_STRENGTH:
            sample = np.random.default_rng(seed).choice(len(x), ROWS_FOR_STRENGTH, replace=False)
            x, y = x[sample], y[sample]
        classes, counts = np.unique(y, return_counts=True)
        splitter: Any = (StratifiedKFold if counts.min() >= folds else KFold)(folds, shuffle=True, random_state=seed)
        losses = np.zeros(len(STRENGTHS))
        for train, held_out in splitter.split(x, y):
            if len(np.unique(y[train])) < 2:
                continue
            model = self._logistic(STRENGTHS[0], warm_start=True)
            for i, strength in enumerate(STRENGTHS):  # from strong to weak: each fit starts where the last one ended
                model.set_params(C=strength).fit(x[train], y[train])
                probabilities = np.full((len(held_out), len(classes)), 1e-12)
                probabilities[:, np.searchsorted(classes, model.classes_)] = model.predict_proba(x[held_out])
                probabilities /= probabilities.sum(axis=1, keepdims=True)
                losses[i] += log_loss(y[held_out], probabilities, labels=classes)
        return STRENGTHS[int(losses.argmin())]

    def _logistic(self, strength: float, warm_start: bool = False) -> LogisticRegression:
        weights = "balanced" if self.training.class_weights == "balanced" else None
        return LogisticRegression(
            C=strength,
            class_weight=weights,
            fit_intercept=self.intercept,
            max_iter=200,
            tol=1e-3,
            warm_start=warm_start,
        )
