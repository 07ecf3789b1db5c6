"""A model behind an address: `serve` answers HTTP requests until it is told to stop."""

from tunesmith.serve.starting import serve

__all__ = ["serve"]
