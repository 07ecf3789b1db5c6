"""SQuAD 1.1 and 2.0: articles of paragraphs of questions in one JSON object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tunesmith.config.schema import DataSettings
from tunesmith.data.jsontext import parse
from tunesmith.data.readers.jsonlines import whole_text
from tunesmith.data.records import RawTable
from tunesmith.data.table import TableBuilder
from tunesmith.errors import DataError


def read(path: str, settings: DataSettings) -> RawTable:
    """Columns ``id``, ``title``, ``context``, ``question`` and ``answers`` (JSON; null where the file
    has none, as for questions that are still to be answered), one row a question in their order.

    Raises:
        DataError: the file is not JSON, or not of this form; with the place.
    """
    text = whole_text(path, settings, "one JSON object; write JSON lines with question and context")
    try:
        content = parse(text)
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON: {error}; write the file again") from None
    with TableBuilder(path) as builder:
        for number, row in enumerate(list(_questions(path, content)), start=1):
            builder.append(number, row)
        return builder.finish("squad")


def _questions(path: str, content: Any) -> Iterator[dict[str, Any]]:
    place = "the top"
    try:
        for number, article in enumerate(content["data"]):
            title = str(article.get("title") or number)
            for at, paragraph in enumerate(article["paragraphs"]):
                place = f"article {title!r}, paragraph {at + 1}"
                for question in paragraph["qas"]:
                    answers = [] if question.get("is_impossible") is True else question.get("answers")
                    if not (isinstance(paragraph["context"], str) and isinstance(question["question"], str)):
                        raise TypeError("context and question are not text")
                    yield {
                        "id": question.get("id"),
                        "title": title,
                        "context": paragraph["context"],
                        "question": question["question"],
                        "answers": answers,
                    }
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: {place}: not of SQuAD's form ({type(error).__name__}: {error}); expected data, paragraphs, "
            "context, qas, question and answers"
        ) from None
