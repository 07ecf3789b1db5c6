"""The settings of a run: what there is, and how files, flags and programs give it."""
