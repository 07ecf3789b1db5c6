"""How other libraries use a saved model, for its card: code that answers as `Predictor.predict` does, or why not."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.tasks.encoding import OVERLAP, Truncation

LONG = {
    "keep-ends": "reads the start and the end of texts that are longer than {length} tokens",
    "windows": "reads texts that are longer than {length} tokens in windows, over which it takes the mean",
}

AUTO_CLASSES = {
    "sequence": "AutoModelForSequenceClassification",
    "token": "AutoModelForTokenClassification",
    "question": "AutoModelForQuestionAnswering",
}


@dataclass(frozen=True)
class Saved:
    """A saved model as its card speaks of it.

    Attributes:
        folder: of the model, seen from the card.
        truncation: how much of a text is read.
        pairs: it reads pairs of texts.
        pooled: it has the layout of sentence-transformers (see `tunesmith.models.sentence`).
        marks_words: its tokenizer marks the pieces that go on with a word.
        outputs: how many its head has.
        base: name on the Hub of the model that it began with.
    """

    folder: str
    truncation: Truncation
    pairs: bool = False
    pooled: bool = False
    marks_words: bool = False
    outputs: int = 2
    base: str | None = None

    @property
    def inside(self) -> str:
        """What the path of a file of the model begins with."""
        return "" if self.folder == "." else f"{self.folder}/"

    def auto_class(self, head: str) -> str:
        """The class of transformers that loads the model, or its backbone where the head is none of transformers'."""
        return "AutoModel" if self.pooled else AUTO_CLASSES.get(head, "AutoModel")


def classifier(saved: Saved, options: str, answer: str) -> str:
    """Markdown for a model with one output a text.

    Args:
        options: more arguments of a pipeline of transformers.
        answer: Python that makes answers of ``labels`` (list) and ``logits`` (texts, labels).
    """
    length = saved.truncation.max_tokens
    if said := LONG.get(saved.truncation.long):
        library = "sentence-transformers" if saved.pooled else "transformers"
        return (
            f"It {said.format(length=length)}; {library} would read their start alone and answer otherwise, so use "
            "Tunesmith.\n"
        )
    if saved.pooled:
        example = '("a text", "a second text")' if saved.pairs else '"a text"'
        return f"""With sentence-transformers, whose output here are the logits, a column for each label:

```python
import json
from pathlib import Path

from sentence_transformers import SentenceTransformer

labels = json.loads(Path("{saved.inside}tunesmith.json").read_text(encoding="utf-8"))["labels"]["names"]
logits = SentenceTransformer("{saved.folder}").encode([{example}], convert_to_tensor=True)
{answer}
```

transformers alone loads the backbone, without the head that answers:
`AutoModel.from_pretrained("{saved.inside}0_Transformer")`.
"""
    example = '{"text": "a text", "text_pair": "a second text"}' if saved.pairs else '"a text"'
    return f"""With transformers:

```python
from transformers import pipeline

classify = pipeline("text-classification", model="{saved.folder}"{options})
classify([{example}], truncation=True, max_length={length})
```
"""


def tagger(saved: Saved, coarse_words: bool) -> str:
    """Markdown for a model that tags words.

    Args:
        coarse_words: see `tunesmith.tasks.base.LabelSpace`.
    """
    length = saved.truncation.max_tokens
    if coarse_words or not saved.marks_words:
        words = "takes words with punctuation in them apart" if saved.marks_words else "knows no words in these tokens"
        return (
            f'transformers loads it with `AutoModelForTokenClassification.from_pretrained("{saved.folder}")`. Its '
            f"pipeline {words}, where the model was trained on whole ones, so that entities come out cut or with a "
            "comma at their end; use Tunesmith.\n"
        )
    return f"""With transformers, which tags each word by itself, so that entities whose tags contradict each other come
out otherwise:

```python
from transformers import AutoTokenizer, pipeline

tokenizer = AutoTokenizer.from_pretrained("{saved.folder}", model_max_length={length})
find = pipeline(
    "token-classification",
    model="{saved.folder}",
    tokenizer=tokenizer,
    aggregation_strategy="first",
    stride={length // OVERLAP},
)
find(["a text"])
```
"""
