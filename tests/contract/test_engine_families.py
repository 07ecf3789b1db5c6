"""The table of families in the documentation says what the engine does with each of them.

``UPDATE_DOCS=1 pytest tests/contract/test_engine_families.py`` writes it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification

from tunesmith.engine import Engine
from tunesmith.models.depth import parameter_order

DOCUMENT = Path(__file__).parents[2] / "docs" / "engine.md"
BEGIN, END = "<!-- families: begin -->\n", "<!-- families: end -->"
HEADER = "| family | packing | frozen prefix | compact vocabulary |\n|---|---|---|---|\n"


def row(folder: Path, family: str) -> str:
    """What the engine reports of a model of the family with its lowest layer frozen, and of one that is not frozen."""
    ids = torch.arange(5, 13).view(2, 4)
    parts = {}
    for frozen in (True, False):
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        model.config.pad_token_id = 0
        blocks = parameter_order(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not frozen or name not in blocks.embeddings | blocks.layers[0])
        engine = Engine(model, token_ids=ids.numpy(), prefix_bytes=10**7)
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
        report = engine.report()
        parts |= {"prefix": report["prefix"]} if frozen else {part: report[part] for part in ("packing", "vocabulary")}
        engine.detach()
    cells = ["exact" if part["state"] == "on" else f"no: {part['reason']}" for part in map(parts.get, ORDER) if part]
    if parts["packing"]["state"] == "off":
        cells[0] = f"steps cut by length: {parts['packing']['reason']}"
    return f"| {family} | {' | '.join(cells)} |\n"


ORDER = ("packing", "prefix", "vocabulary")


def test_the_table_of_families_is_up_to_date(
    tiny_model_folder: Callable[[str], Path], families: tuple[str, ...]
) -> None:
    table = HEADER + "".join(row(tiny_model_folder(family), family) for family in families)
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    wanted = before + BEGIN + table + END + after
    if os.environ.get("UPDATE_DOCS"):
        DOCUMENT.write_text(wanted, encoding="utf-8")
    assert text == wanted, "write it with UPDATE_DOCS=1"
