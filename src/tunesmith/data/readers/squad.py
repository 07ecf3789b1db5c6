"""SQuAD 1.1 and 2.0: articles of paragraphs of questions in one JSON object."""

from __future__ import annotations

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
    number, place = 0, "the top"
    with TableBuilder(path) as builder:
        try:
            for at, article in enumerate(content["data"]):
                title = str(article.get("title") or at)
                for paragraph_at, paragraph in enumerate(article["paragraphs"], 1):
                    place, context = f"article {title!r}, paragraph {paragraph_at}", paragraph["context"]
                    for asked in paragraph["qas"]:
                        question = asked["question"]
                        if not (isinstance(context, str) and isinstance(question, str)):
                            raise TypeError("context and question are not text")
                        answers = [] if asked.get("is_impossible") is True else asked.get("answers")
                        row = {"id": asked.get("id"), "title": title, "context": context, "question": question}
                        number += 1
                        builder.append(number, row | {"answers": answers})
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}: {place}: not of SQuAD's form ({type(error).__name__}: {error}); expected data, paragraphs, "
                "context, qas, question and answers"
            ) from None
        return builder.finish("squad")
