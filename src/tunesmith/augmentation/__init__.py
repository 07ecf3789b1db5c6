"""More training rows made from the ones there are: edits of texts that leave every label true by construction.

records ─amounts→ copies of rows ─technique→ Edits ─apply, moved→ new rows, with what they were made from
"""

from __future__ import annotations

NONE = "none"
TECHNIQUES: dict[str, str] = {
    "delete": "tunesmith.augmentation.techniques:Delete",
    "swap": "tunesmith.augmentation.techniques:Swap",
    "insert": "tunesmith.augmentation.techniques:Insert",
    "synonym": "tunesmith.augmentation.techniques:Synonym",
    "punctuation": "tunesmith.augmentation.techniques:Punctuation",
    "typo": "tunesmith.augmentation.techniques:Typo",
    "entity": "tunesmith.augmentation.techniques:Entity",
    "masked": "tunesmith.augmentation.masked:Masked",
}
SHORTHANDS = {"eda": ("synonym", "insert", "swap", "delete")}
"""Names for several techniques: the four of EDA (Wei and Zou 2019)."""
