"""SQuAD 1.1 and 2.0: articles of paragraphs of questions, or paragraphs alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

FORM = "expected data, paragraphs, context, qas, question and answers"


def holds_questions(row: dict[str, Any]) -> bool:
    """Whether a JSON object is an article of SQuAD, or a paragraph with its questions."""
    if isinstance(row.get("qas"), list):
        return True
    paragraphs = row.get("paragraphs")
    return isinstance(paragraphs, list) and all(isinstance(one, dict) and "context" in one for one in paragraphs)


def questions(row: dict[str, Any], number: int) -> Iterator[dict[str, Any]]:
    """The questions of an article, or of one paragraph.

    Args:
        number: of the article from 0, which names it where it has no title.

    Raises:
        ValueError: it is not of SQuAD's form; with the place.
    """
    title = str(row.get("title") or number) if "paragraphs" in row else None
    place = ""
    try:
        for at, paragraph in enumerate(row["paragraphs"] if title is not None else [row], 1):
            place, context = f"article {title!r}, paragraph {at}: " if title else "", paragraph["context"]
            for asked in paragraph["qas"]:
                question = asked["question"]
                if not (isinstance(context, str) and isinstance(question, str)):
                    raise TypeError("context and question are not text")
                answers = asked.get("answers", asked.get("answer"))
                if asked.get("is_impossible") is True:
                    if answers:
                        raise TypeError("is_impossible, and yet it has answers; plausible ones are plausible_answers")
                    answers = []
                found = {"id": asked.get("id"), "context": context, "question": question, "answers": answers}
                yield found if title is None else {"title": title} | found
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{place}not of SQuAD's form ({type(error).__name__}: {error}); {FORM}") from None
