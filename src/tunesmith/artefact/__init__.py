"""Exported models, and answering with them: nothing here imports torch or transformers."""
