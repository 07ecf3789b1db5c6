"""Campaigns: programs that break runs, models and data on purpose, and count what came of it; see `common`."""
