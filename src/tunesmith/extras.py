"""What is installed only on demand: what lacks is told in one line, with the command that installs it."""

from __future__ import annotations

from importlib.util import find_spec

from tunesmith.errors import UsageError

EXTRAS = {
    "train": (
        "torch",
        "transformers",
        "accelerate",
        "datasets",
        "peft",
        "sklearn",
        "threadpoolctl",
        "safetensors",
        "huggingface_hub",
    ),
    "predict": ("tokenizers", "onnxruntime"),
    "serve": ("fastapi", "starlette", "uvicorn", "prometheus_client"),
    "onnx": ("onnx", "onnxscript"),
}
"""Modules by the extra of ``pyproject.toml`` that brings them."""


def require(*names: str) -> None:
    """Refuse to begin what would fail later for want of a package; nothing is imported.

    Args:
        names: of extras.

    Raises:
        UsageError: a package of them is not installed.
    """
    for name in names:
        if missing := next((module for module in EXTRAS[name] if not _is_there(module)), None):
            raise UsageError(_remedy(missing, name))


def advice(error: ModuleNotFoundError) -> str | None:
    """What to install, where a package of an extra is what an import did not find."""
    module = (error.name or "").split(".")[0]
    return next((_remedy(module, name) for name, modules in EXTRAS.items() if module in modules), None)


def _remedy(module: str, extra: str) -> str:
    return f'this needs {module}, which is not installed; run `pip install "tunesmith[{extra}]"`'


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # by a finder that refuses it
        return False
