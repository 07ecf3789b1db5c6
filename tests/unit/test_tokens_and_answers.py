"""Words, windows, tag sequences, answers and their scores, on tiny tokenizers and by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from seqeval.metrics import classification_report, f1_score, precision_score, recall_score
from seqeval.scheme import IOB2
from transformers import AutoModelForQuestionAnswering, AutoModelForTokenClassification, AutoTokenizer

from tunesmith.data.layout import Layout
from tunesmith.data.layout.answers import ANSWER_LISTS
from tunesmith.data.layout.spans import SPAN_LISTS
from tunesmith.data.layout.tags import entities
from tunesmith.data.records import Records, Span
from tunesmith.data.shapes import SHAPES
from tunesmith.data.words import word_bounds
from tunesmith.evaluation.answer_scores import answer_scores, best_threshold
from tunesmith.evaluation.entity_scores import span_counts, span_statistics
from tunesmith.evaluation.labels import of_rows
from tunesmith.predictor import Predictor
from tunesmith.registry import lookup
from tunesmith.tasks import TASKS
from tunesmith.tasks.base import InDocuments, LabelSpace
from tunesmith.tasks.encoding import Encoder, Truncation
from tunesmith.tasks.entities import NamedEntities
from tunesmith.tasks.predictions import FoundSpan
from tunesmith.tasks.questions import Candidates, QuestionAnswering
from tunesmith.tasks.viterbi import best_paths
from tunesmith.training.backend import TorchModel
from tunesmith.training.inference import TOKENS_PER_BATCH

VOCABULARY = [
    "the",
    "film",
    "card",
    "bank",
    "money",
    "late",
    "lost",
    "new",
    "old",
    "fast",
    "cat",
    ",",
    ".",
    "Zürich",
    "x1y2",
    "don't",
]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("don't go", ["don", "'", "t", "go"]),
        ("a  b\n", ["a", "b"]),
        ("东京 ist", ["东", "京", "ist"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("cafe\u0301s!", ["cafe\u0301s", "!"]),
        ("", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert [text[start:end] for start, end in zip(*word_bounds(text), strict=True)] == words


def ner_records(rows: list[tuple[str, list[tuple[int, int, str]]]]) -> Records:
    spans = [[{"start": s, "end": e, "label": label} for s, e, label in found] for _, found in rows]
    return Records(
        pa.table(
            {
                "id": [str(i) for i in range(len(rows))],
                "text": [text for text, _ in rows],
                "label": pa.array(spans, SPAN_LISTS),
                "row": list(range(1, len(rows) + 1)),
            }
        ),
        "made",
    )


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_spans_survive_tags_and_windows(data: Any, tiny_model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Perfect logits give back every span, however long the text and wherever a window ends."""
    task, tokenizer = NamedEntities(), AutoTokenizer.from_pretrained(tiny_model_folder("bert"))
    rows = []
    for _ in range(data.draw(st.integers(1, 3))):
        words = data.draw(st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=60))
        text = " ".join(words)
        starts, ends = word_bounds(text)
        cuts = sorted(data.draw(st.sets(st.integers(0, len(starts)), max_size=6)))
        spans = [
            (int(starts[a]), int(ends[b - 1]), data.draw(st.sampled_from(["PER", "LOC"])))
            for a, b in itertools.pairwise(cuts)
            if data.draw(st.booleans())
        ]
        rows.append((text, spans))
    records = ner_records(rows)
    space = LabelSpace(("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))
    features = task.encode(records, space, Encoder(tokenizer, Truncation(16), tmp_path / "f.arrow"), True)
    assert features.lengths.max() <= 16
    labels = features.flat("labels")
    logits = np.where(np.arange(5) == np.maximum(labels, 0)[:, None], 9.0, 0.0)
    found = task.outputs(logits, features, space)
    assert [[(span.start, span.end, span.label) for span in spans] for spans in found] == [list(s) for _, s in rows]
    assert all(
        span.text == text[span.start : span.end] for (text, _), spans in zip(rows, found, strict=True) for span in spans
    )
    assert task.quick_score(found, task.targets(records, space), space)["span_f1"] == (
        1.0 if any(s for _, s in rows) else 0.0
    )


def test_every_word_is_tagged_where_it_has_context_on_both_sides(
    tiny_model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """Logits that are right only away from a window's ends give back every entity: windows overlap."""
    task, tokenizer = NamedEntities(), AutoTokenizer.from_pretrained(tiny_model_folder("bert"))
    text = " ".join(VOCABULARY[i % 11] for i in range(300))
    starts, ends = word_bounds(text)
    spans = [(int(start), int(end), "A") for start, end in zip(starts[10:-10], ends[10:-10], strict=True)]
    space = LabelSpace(("O", "B-A", "I-A"))
    features = task.encode(
        ner_records([(text, spans)]), space, Encoder(tokenizer, Truncation(48), tmp_path / "f.arrow"), True
    )
    near = np.concatenate([np.minimum(np.arange(n), np.arange(n)[::-1]) < 8 for n in features.lengths])
    tags = np.where(near, 0, np.maximum(features.flat("labels"), 0))
    found = task.outputs(np.where(np.arange(3) == tags[:, None], 9.0, 0.0), features, space)[0]
    assert [(span.start, span.end, span.label) for span in found] == spans


def test_the_best_path_is_the_best_of_all_valid_ones() -> None:
    draw = np.random.default_rng(0)
    allowed, first = draw.random((4, 4)) > 0.3, np.array([True, False, True, True])
    np.fill_diagonal(allowed, True)
    scores = [draw.normal(size=(length, 4)) for length in (5, 1, 3, 0, 6)]

    def total(path: tuple[int, ...], part: np.ndarray) -> float:
        if not first[path[0]] or not all(allowed[a, b] for a, b in itertools.pairwise(path)):
            return -np.inf
        return float(part[np.arange(len(path)), list(path)].sum())

    for part, path in zip(scores, best_paths(scores, allowed, first), strict=True):
        assert len(path) == len(part)
        if len(part):
            best = max(itertools.product(range(4), repeat=len(part)), key=lambda one: total(one, part))
            assert tuple(path) == best


def test_span_scores_by_hand() -> None:
    gold = [[(0, 3, "A"), (5, 8, "B")], [(0, 2, "A")], []]
    found = [[(0, 3, "A"), (5, 8, "A")], [], [(1, 2, "B")]]
    counts = span_counts(gold, found, ["A", "B"])
    scores = {name: float(value[0]) for name, value in span_statistics(*counts, np.ones((3, 1))).items()}
    assert scores == pytest.approx({"span_precision": 1 / 3, "span_recall": 1 / 3, "span_f1": 1 / 3})


REPORTED = ("precision", "recall", "f1-score")


@given(data=st.data())
def test_span_scores_are_those_of_seqeval(data: Any) -> None:
    """Random sequences, also with inside tags that begin an entity: counted as the CoNLL script counts them."""
    types = ["LOC", "PER", "X"]
    tags = st.sampled_from(["O", "O", *(f"{prefix}-{name}" for name in types for prefix in "BI")])
    lengths = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=5))
    sides = [[data.draw(st.lists(tags, min_size=n, max_size=n)) for n in lengths] for _ in range(2)]
    counts = span_counts(*([entities(sequence)[0] for sequence in side] for side in sides), types)
    found = span_statistics(*counts, np.ones((len(lengths), 1)))
    judges = {"precision": precision_score, "recall": recall_score, "f1": f1_score}
    for name, judge in judges.items():
        assert found[f"span_{name}"][0] == pytest.approx(judge(*sides, zero_division=0)), name
    if not counts[1].any() and not counts[2].any():
        return  # seqeval's report has no types to show
    per_type = of_rows(types, *(part.sum(axis=0) for part in counts))
    for name, wanted in classification_report(*sides, output_dict=True, zero_division=0).items():
        if name in per_type:
            one = per_type[name]
            scores = [score.value if score else 0.0 for score in one.metrics.values()]
            assert scores == pytest.approx([wanted[name] if one.support else 0.0 for name in REPORTED])
            assert one.support == wanted["support"]


@given(data=st.data())
def test_span_scores_are_those_of_seqeval_in_strict_mode(data: Any) -> None:
    """Valid IOB2, which is what the constrained decoding gives, counts the same in seqeval's strict mode."""
    types = ["LOC", "PER"]
    sides: list[list[list[str]]] = [[], []]
    for side in sides:
        for length in (7, 1, 5):
            names = data.draw(st.lists(st.sampled_from(["O", *types]), min_size=length, max_size=length))
            opens = data.draw(st.lists(st.booleans(), min_size=length, max_size=length))
            before = ["O", *names]
            side.append(
                ["O" if name == "O" else f"{'B' if first or name != last else 'I'}-{name}"
                 for name, last, first in zip(names, before, opens, strict=False)]
            )  # fmt: skip
    counts = span_counts(*([entities(sequence)[0] for sequence in side] for side in sides), types)
    found = span_statistics(*counts, np.ones((3, 1)))
    wanted = f1_score(*sides, mode="strict", scheme=IOB2, zero_division=0)
    assert found["span_f1"][0] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("predicted", "gold", "exact", "overlap"),
    [
        ("The Broncos!", ["Broncos"], 1.0, 1.0),
        ("Denver Broncos", ["Broncos"], 0.0, 2 / 3),
        ("a b b", ["b b c"], 0.0, 0.8),
        ("", [], 1.0, 1.0),
        ("x", [], 0.0, 0.0),
        ("", ["x"], 0.0, 0.0),
        ("x", ["y", "x z"], 0.0, 2 / 3),
        ("the", ["a"], 1.0, 1.0),  # the script leaves out accepted answers of which nothing remains
        ("the", ["a", "cat"], 0.0, 0.0),
        ("", ["the", "cat"], 0.0, 0.0),
        ("an", [], 1.0, 1.0),
        ("U.S.", ["US"], 1.0, 1.0),
        ("theatre", ["atre"], 0.0, 0.0),
        ("well-known", ["wellknown"], 1.0, 1.0),
        ("  New\tYork ", ["new york"], 1.0, 1.0),
        ("the the cat sat", ["cat sat sat"], 0.0, 0.8),
        ("«Paris»", ["Paris"], 0.0, 0.0),  # the script knows the punctuation of ASCII only
    ],
)
def test_answer_scores_by_hand(predicted: str, gold: list[str], exact: float, overlap: float) -> None:
    found = answer_scores([predicted], [gold])
    assert (found[0][0], found[1][0]) == pytest.approx((exact, overlap))


@pytest.mark.parametrize("decimals", [9, 0])  # with few decimals many margins are equal
def test_the_threshold_is_the_best_of_all(decimals: int) -> None:
    draw = np.random.default_rng(1)
    margins, answered, silent = draw.normal(size=50), draw.random(50), (draw.random(50) > 0.5).astype(float)
    margins = margins.round(decimals)
    found = best_threshold(margins, answered, silent)

    def mean(limit: float) -> float:
        return float(np.where(margins > limit, silent, answered).mean())

    assert mean(found) == pytest.approx(max(mean(limit) for limit in [-np.inf, *margins, np.inf]))


def question_records(context: str, questions: list[tuple[str, list[tuple[int, str]]]]) -> Records:
    answers = [[{"start": start, "text": text} for start, text in found] for _, found in questions]
    return Records(
        pa.table(
            {
                "id": [str(i) for i in range(len(questions))],
                "text": [question for question, _ in questions],
                "text_pair": [context] * len(questions),
                "label": pa.array(answers, ANSWER_LISTS),
                "row": list(range(1, len(questions) + 1)),
            }
        ),
        "made",
    )


@pytest.mark.parametrize("at", range(0, 40, 3))
def test_an_answer_is_found_wherever_it_stands(
    at: int, tiny_model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """Perfect logits of every window give back the exact characters; an answer at a border is whole in some window."""
    task, tokenizer = QuestionAnswering(), AutoTokenizer.from_pretrained(tiny_model_folder("bert"))
    words = [VOCABULARY[i % 11] for i in range(45)]
    context = " ".join(words)
    start = len(" ".join(words[:at])) + (at > 0)
    answer = " ".join(words[at : at + 3])
    records = question_records(context, [("the bank ?", [(start, answer)]), ("the cat ?", [])])
    space = task.labels(records)
    assert space.threshold == 0.0
    features = task.encode(records, space, Encoder(tokenizer, Truncation(24), tmp_path / "f.arrow"), True)
    assert features.record_of is not None and (features.record_of == 0).sum() > 2
    assert features.targets is not None and features.targets[features.record_of == 0].any()
    logits = np.zeros((int(features.lengths.sum()), 2), dtype=np.float32)
    edges = np.cumsum(features.lengths) - features.lengths
    for side in (0, 1):
        logits[edges + features.targets[:, side], side] = 9.0
    # The windows without the answer say "nothing" as loudly as the others say where it is.
    found = task.outputs(logits, features, space)
    assert found[0].answers[0][:2] == (start, answer)
    assert found[0].text(None) == answer and found[1].text(0.0) == ""
    prediction = task.decode(found, space)[0]
    assert prediction.answer is not None and context[prediction.answer.start : prediction.answer.end] == answer


def test_no_answer_is_given_above_the_threshold_only() -> None:
    candidates = Candidates(((3, "x", 2.0), (5, "y", 1.0)), 2.5)
    assert candidates.text(None) == "x" and candidates.text(0.4) == "" and candidates.text(0.6) == "x"
    task = QuestionAnswering()
    assert task.decode([candidates], LabelSpace(("start", "end"), threshold=0.0))[0].to_dict()["answer"] == ""
    shown = task.decode([candidates], LabelSpace(("start", "end")))[0].to_dict()
    assert shown["answer"] == "x" and "no_answer" not in shown


def test_a_question_longer_than_the_model_leaves_room_for_the_context(
    tiny_model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    task, tokenizer = QuestionAnswering(), AutoTokenizer.from_pretrained(tiny_model_folder("bert"))
    records = question_records("the cat lost money", [("who " * 300, [(4, "cat")])])
    features = task.encode(
        records, task.labels(records), Encoder(tokenizer, Truncation(32), tmp_path / "f.arrow"), True
    )
    assert features.lengths.max() <= 32 and features.targets is not None and features.targets.any()


def test_intervals_are_over_documents() -> None:
    """Ten texts of one document are one draw: with every text alike in its document the interval is that of two."""
    task, space = NamedEntities(), LabelSpace(("O", "B-A", "I-A"))
    spans = [(Span(0, 3, "A"),)] * 20
    found = [(FoundSpan(0, 3, "A", "the", 1.0),)] * 10 + [()] * 10
    whole, alone = InDocuments(spans, np.repeat([0, 1], 10)), InDocuments(spans, np.arange(20))
    wide, narrow = (task.score(found, gold, space, 500, 0)["span_recall"] for gold in (whole, alone))
    assert (wide.value, wide.low, wide.high, wide.n) == (0.5, 0.0, 1.0, 20)
    assert narrow.value == 0.5 and 0.2 < narrow.low < narrow.high < 0.8
    of_type = task.score_labels(found, whole, space, 500, 0)["A"].metrics["recall"]
    assert of_type and (of_type.value, of_type.low, of_type.high, of_type.n) == (0.5, 0.0, 1.0, 2)
    two = task.score_labels(found, whole, LabelSpace((*space.names, "B-B", "I-B")), 9, 0)
    assert two.keys() == {"A", "B"} and two["B"].metrics["recall"] is None


def test_one_document_alone_is_resampled_by_its_texts() -> None:
    """Its interval would be a point: every resample of one document is that document."""
    task, records = NamedEntities(), ner_records([("the cat", [(0, 3, "A")])] * 3)
    for groups, expected in ((["a"] * 3, [0, 1, 2]), (["a", "b", "a"], [0, 1, 0])):
        grouped = Records(records.table.append_column("group", pa.array(groups)), "made")
        assert task.targets(grouped, LabelSpace(("O", "B-A", "I-A"))).document.tolist() == expected


def test_questions_on_one_context_are_resampled_together() -> None:
    task, space = QuestionAnswering(), LabelSpace(("start", "end"))
    found = [Candidates(((0, "yes" if i < 20 else "no", 1.0),), 0.0) for i in range(40)]
    apart = InDocuments([("yes",)] * 40, np.arange(40))
    together = InDocuments([("yes",)] * 40, np.repeat([0, 1], 20))
    one, other = (task.score(found, targets, space, 500, 0)["exact_match"] for targets in (apart, together))
    assert one.value == other.value == 0.5 and one.n == other.n == 40
    assert one.low > 0.3 and one.high < 0.7 and (other.low, other.high) == (0.0, 1.0)
    assert task.right(found, together, space).tolist() == [True] * 20 + [False] * 20  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["ner", "qa"])
def test_a_book_goes_through_the_model_in_batches_of_the_budget(
    kind: str, tiny_model_folder: Callable[[str], Path]
) -> None:
    text = " ".join(VOCABULARY[i % 11] for i in range(50_000))
    task, folder = lookup(TASKS, "tasks", kind), tiny_model_folder("bert")
    head = AutoModelForTokenClassification if kind == "ner" else AutoModelForQuestionAnswering
    model = head.from_pretrained(folder, num_labels=3 if kind == "ner" else 2).eval()
    space = LabelSpace(("O", "B-A", "I-A") if kind == "ner" else ("start", "end"))
    sizes: list[int] = []
    model.register_forward_pre_hook(
        lambda _, args, options: sizes.append(options["input_ids"].numel()), with_kwargs=True
    )
    layout = Layout(SHAPES[kind], "text", "context" if kind == "qa" else None)
    predictor = Predictor(
        TorchModel(model, AutoTokenizer.from_pretrained(folder)), task(), space, Truncation(128), layout
    )
    found = predictor.predict([("who ?", text) if kind == "qa" else text])[0]
    assert max(sizes) <= TOKENS_PER_BATCH and sum(sizes) > 50_000
    for part in found.spans or found.answers or ():
        assert text[part.start : part.end] == part.text


def test_a_book_is_read_in_bounded_pieces(tiny_model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    task, tokenizer = NamedEntities(), AutoTokenizer.from_pretrained(tiny_model_folder("bert"))
    text = " ".join(VOCABULARY[i % 11] for i in range(50_000))
    records, space = ner_records([(text, [])]), LabelSpace(("O", "B-A", "I-A"))
    features = task.encode(records, space, Encoder(tokenizer, Truncation(128), tmp_path / "f.arrow"), False)
    logits = np.zeros((int(features.lengths.sum()), 3), dtype=np.float32)
    logits[:, 1] = 1.0
    found = task.outputs(logits, features, space)[0]
    assert len(found) == 50_000 and found[-1].end == len(text)


@pytest.mark.parametrize(
    ("text", "fine", "coarse"),
    [
        ("Ada's e-mail, 3.50!", "Ada|'|s|e|-|mail|,|3|.|50|!", "Ada's|e-mail|,|3.50|!"),
        ("see http://a.b/c?d=1 (now)", "see|http|:|/|/|a|.|b|/|c|?|d|=|1|(|now|)", "see|http://a.b/c?d=1|(|now|)"),
        ("@ada #x $5 a@b ...", "@|ada|#|x|$|5|a|@|b|.|.|.", "@ada|#x|$5|a@b|.|.|."),
        ("東京 is", "東|京|is", "東|京|is"),
        ("ok👩\u200d👧", "ok|👩|\u200d|👧", "ok|👩|\u200d|👧"),
        ("  ", "", ""),
    ],
)
def test_words_by_both_rules(text: str, fine: str, coarse: str) -> None:
    for wanted, rule in ((fine, False), (coarse, True)):
        found = [text[start:end] for start, end in zip(*word_bounds(text, rule), strict=True)]
        assert "|".join(found) == wanted


@given(text=st.text("ab1.,'@#-/ \u0301\u200d👩\u0e31東\n", max_size=30))
def test_coarse_words_are_made_of_whole_fine_words(text: str) -> None:
    starts, ends = word_bounds(text)
    coarse_starts, coarse_ends = word_bounds(text, coarse=True)
    assert set(coarse_starts) <= set(starts) and set(coarse_ends) <= set(ends)
    covered = "".join(text[start:end] for start, end in zip(coarse_starts, coarse_ends, strict=True))
    assert covered == "".join(text.split())


def test_words_are_as_fine_as_the_annotation_needs() -> None:
    task = NamedEntities()
    tokens = ner_records([("see @ada at http://a.b now", [(4, 8, "PER")]), ("e-mail", [])])
    assert task.labels(tokens).coarse_words
    characters = ner_records([("Ada's book", [(0, 3, "PER")])])
    assert not task.labels(characters).coarse_words
    assert LabelSpace(**task.labels(tokens).to_dict()) == task.labels(tokens)
