"""What a model folder must show before a library reads a byte of it, and the walls around the library while it does.

A folder is untrusted, whoever made it: a base model, a run of a stranger, a checkpoint, a snapshot of the Hub. It
passes whole or not at all; every problem is told, with the file and the rule. The rules, by module:

`files`
    plain files inside the folder, no links, pipes or devices; weights only as ``*.safetensors``; nothing by which a
    library would load an adapter or a training checkpoint in the model's stead.
`settings`
    classes from a list that is derived from the library's own tables; no key that names code, files or other models;
    integers within limits, under whatever name and however deep.
`tokens`
    parts of a tokenizer from a list, with limits of their number, their regular expressions and what they make of a
    text.
`weights`
    headers that describe their file; shards named plainly; no model that would be far larger than what the file holds.
`adapters`
    names of layers, not expressions; ranks within limits.
`walls`
    while a library loads: no module of a folder is imported, nobody answers a question, the Hub is out of reach.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunesmith.models.gate.adapters import check_adapter
    from tunesmith.models.gate.folder import check_folder, shapes_in
    from tunesmith.models.gate.settings import model_types, tokenizer_classes
    from tunesmith.models.gate.walls import walled
    from tunesmith.models.gate.weights import bounded

__all__ = ["bounded", "check_adapter", "check_folder", "model_types", "shapes_in", "tokenizer_classes", "walled"]

_MODULE_OF = {
    "bounded": "weights",
    "check_adapter": "adapters",
    "check_folder": "folder",
    "model_types": "settings",
    "shapes_in": "folder",
    "tokenizer_classes": "settings",
    "walled": "walls",
}


def __getattr__(name: str) -> Any:
    """Imported when first used: `tokens` alone needs no torch."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
