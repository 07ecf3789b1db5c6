"""Scores with intervals, calibration and baselines: pure functions on NumPy arrays, no torch."""
