"""Scores of extractive answers, as the SQuAD evaluation script counts them (Rajpurkar et al. 2016 and 2018)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from tunesmith.evaluation.metrics import Floats, Metric, Metrics, Scores

ANSWER_METRICS: Metrics = {
    "exact_match": Metric(
        "Exact match",
        "answers that match word for word",
        sentence="Of {n} {split} questions, {value} are answered word for word.",
    ),
    "answer_f1": Metric(
        "Answer F1",
        "word overlap of answers",
        sentence="Over {n} {split} questions, the word overlap (F1) of answers with the true ones is {value}.",
    ),
}
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(answer: str) -> str:
    """Lower case, without ASCII punctuation, English articles and superfluous white space."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def answer_f1(predicted: str, gold: str) -> float:
    """F1 of the words of two normalised answers as multisets; of two where one is empty, whether both are."""
    found, wanted = normalised(predicted).split(), normalised(gold).split()
    if not found or not wanted:
        return float(found == wanted)
    shared = sum((Counter(found) & Counter(wanted)).values())
    return 2 * shared / (len(found) + len(wanted))


def answer_scores(predicted: Sequence[str], gold: Sequence[Sequence[str]]) -> tuple[Floats, Floats]:
    """Exact match and F1 of each answer with the accepted one it fits best, (n,) each.

    Args:
        predicted: the answers; empty for "no answer".
        gold: accepted answers of each question; none for a question without answer.
    """
    # Answers that are nothing but punctuation or articles would normalise to "no answer"; the script leaves them out.
    accepted = [[answer for answer in answers if normalised(answer)] or [""] for answers in gold]
    pairs = list(zip(predicted, accepted, strict=True))
    exact = [max(float(normalised(answer) == normalised(one)) for one in answers) for answer, answers in pairs]
    overlap = [max(answer_f1(answer, one) for one in answers) for answer, answers in pairs]
    return np.array(exact, dtype=np.float64), np.array(overlap, dtype=np.float64)


def answer_statistics(exact: Floats, overlap: Floats, questions: Floats, weights: Floats) -> Scores:
    """`exact_match` and `answer_f1` for each column of `weights` (n, B): (B,).

    Args:
        exact, overlap, questions: (n,) sums over the questions of each document, and their number.
    """
    total = questions @ weights
    return {"exact_match": exact @ weights / total, "answer_f1": overlap @ weights / total}


def best_threshold(margins: Floats, with_answer: Floats, without: Floats) -> float:
    """The threshold above which "no answer" is given, so that the mean score is highest.

    Args:
        margins: (n,) score of "no answer" less that of the best answer.
        with_answer, without: (n,) what each question scores when it is answered, and when it is not.
    """
    order = np.argsort(margins, kind="stable")
    gain = (with_answer - without)[order]
    totals = without.sum() + np.concatenate([[0.0], np.cumsum(gain)])  # the first k are answered
    edges = margins[order]
    totals[1:-1][np.diff(edges) == 0] = -np.inf  # no threshold lies between equal margins
    best = int(totals.argmax())
    if best == 0:
        return float(edges[0] - 1.0)
    return float(edges[-1] + 1.0) if best == len(edges) else float((edges[best - 1] + edges[best]) / 2)
