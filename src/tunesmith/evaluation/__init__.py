"""Scores with intervals, calibration and baselines: pure functions on NumPy arrays, no torch."""

from tunesmith.evaluation.answer_scores import ANSWER_METRICS
from tunesmith.evaluation.entity_scores import SPAN_METRICS
from tunesmith.evaluation.metrics import CLASSIFICATION_METRICS, REGRESSION_METRICS, Metrics

METRICS: Metrics = {**CLASSIFICATION_METRICS, **REGRESSION_METRICS, **SPAN_METRICS, **ANSWER_METRICS}
"""Of all built-in tasks; goes as soon as the report reads what a run describes."""
