"""More training rows made from the ones there are: edits of texts that leave every label true by construction.

records ─amounts→ copies of rows ─technique→ Edits ─apply, moved→ new rows, with what they were made from
"""

from __future__ import annotations

NONE = "none"
TECHNIQUES: dict[str, str] = {
    "delete": "tunesmith.data.augmentation.techniques:Delete",
    "swap": "tunesmith.data.augmentation.techniques:Swap",
    "insert": "tunesmith.data.augmentation.techniques:Insert",
    "synonym": "tunesmith.data.augmentation.techniques:Synonym",
    "punctuation": "tunesmith.data.augmentation.techniques:Punctuation",
    "typo": "tunesmith.data.augmentation.techniques:Typo",
    "entity": "tunesmith.data.augmentation.techniques:Entity",
    "masked": "tunesmith.training.proposals:Masked",
    "mixup": "tunesmith.training.mixup:MixUp",
}
SHORTHANDS = {"eda": ("synonym", "insert", "swap", "delete")}
"""Names for several techniques: the four of EDA (Wei and Zou 2019)."""
