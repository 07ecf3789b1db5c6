"""New rows: how many of which, from what, and where synonyms come from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.augmentation.lexicon import Groups, WordNet, load_lexicon
from tunesmith.augmentation.rows import MAX_COPIES, Augmented, Augmenter, amounts, chosen_names
from tunesmith.config.loading import resolve
from tunesmith.config.schema import Config
from tunesmith.data.keys import mixed
from tunesmith.data.layout.answers import ANSWER_LISTS
from tunesmith.data.layout.spans import SPAN_LISTS
from tunesmith.data.records import Answer, Records
from tunesmith.data.shapes import SHAPES
from tunesmith.errors import DataError, UsageError


def records(texts: list[str], labels: list[Any], kind: pa.DataType | None = None, **columns: Any) -> Records:
    ids = [f"r{i}" for i in range(len(texts))]
    table = {"id": ids, "text": texts, "label": pa.array(labels, kind), "row": pa.array(range(1, len(texts) + 1))}
    return Records(pa.table(table | columns), "made.csv")


def settings(names: str, factor: float = 1.0, *sets: str, **options: Any) -> Config:
    return resolve(options={"augment": names, "augment_factor": factor, **options}, sets=sets)


def augment(config: Config, kind: str, train: Records, test: Records | None = None) -> Augmented:
    augmenter = Augmenter.of(config, SHAPES[kind], train)
    assert augmenter is not None
    total, done = augmenter.total, list[int]()
    found = augmenter.rows({"train": train, "test": test or train}, done.append)
    assert sum(done) == total
    return found


def sentences(rows: int, seed: int = 0) -> list[str]:
    draw = np.random.default_rng(seed)
    return [f"{' '.join(map(str, draw.choice(list('abcdefghij'), 20)))} number{i}" for i in range(rows)]


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=60).map(np.array), st.floats(0.05, 5), st.integers(0, 2**32 - 1)
)
def test_amounts(strata: np.ndarray, factor: float, salt: int) -> None:
    total = round(factor * len(strata))
    copies = amounts(strata, total, mixed(np.arange(len(strata), dtype=np.uint64), salt))
    assert copies.sum() == total and copies.min() >= 0
    assert copies.max() <= np.ceil(MAX_COPIES * total / len(strata))
    rows, after = np.bincount(strata), np.bincount(strata, weights=copies + 1)
    bound = rows * np.ceil(MAX_COPIES * total / len(strata))
    bound[0] = np.ceil(total * rows[0] / len(strata))
    assert (after - rows <= bound).all()
    for a in np.flatnonzero(rows):
        own = copies[strata == a]
        assert own.max() - own.min() <= 1  # within a stratum all rows serve alike
        for b in np.flatnonzero(rows):
            if rows[a] < rows[b] and after[a] - rows[a] < bound[a]:
                assert after[a] >= after[b] - 1 or after[b] == rows[b]  # no commoner stratum is filled up first


def test_rare_labels_catch_up_first() -> None:
    train = records(sentences(100), ["common"] * 80 + ["less"] * 15 + ["rare"] * 5)
    counts = augment(settings("punctuation", 0.5), "classification", train).facts["by_label"]
    assert counts == {"common": 10, "less": 30, "rare": 10}  # at most two copies of a row
    counts = augment(settings("punctuation", 0.3), "classification", train).facts["by_label"]
    assert counts == {"less": 20, "rare": 10}  # which then have 35 and 15
    found = augment(settings("punctuation,typo", 2), "classification", train)
    assert Counter(found.sources).most_common(1)[0][1] <= 2 * MAX_COPIES
    counts = found.facts["by_label"]
    assert counts["rare"] + counts["less"] + counts["common"] == found.facts["rows"]
    assert counts["rare"] <= 40 and counts["less"] > counts["common"] / 80 * 15  # more copies of each row


def test_rows_of_several_labels_are_judged_by_the_rarest() -> None:
    labels = [["a"]] * 40 + [["a", "b"]] * 8 + [["a", "c"]] * 2
    counts = augment(settings("punctuation", 0.2), "multilabel", records(sentences(50), labels)).facts["by_label"]
    assert counts == {"a": 10, "b": 8, "c": 2}  # no row that has the label "a" alone


def test_entities_are_judged_by_the_rarest_type() -> None:
    texts = [f"see rome and bob now {i}" for i in range(20)]
    place, person = {"start": 4, "end": 8, "label": "place"}, {"start": 13, "end": 16, "label": "person"}
    found = augment(
        settings("punctuation", 0.1), "ner", records(texts, [[place]] * 18 + [[place, person]] * 2, SPAN_LISTS)
    )
    assert set(found.sources) == {"r18", "r19"} and found.facts["by_label"] == {"person": 2, "place": 2}
    for record in found.new:
        assert isinstance(record.label, tuple)
        assert [record.text[span.start : span.end] for span in record.label] == ["rome", "bob"]  # type: ignore[union-attr]


def named(rows: int, without: int) -> Records:
    """Rows with one entity each, all different, then rows without any."""
    texts = [f"see name{i} in place{i} again" for i in range(rows)] + sentences(without)
    spans = [[{"start": 4, "end": text.index(" ", 4), "label": "PER"}] for text in texts[:rows]]
    return records(texts, spans + [[]] * without, SPAN_LISTS)


@pytest.mark.parametrize("kind", ["ner", "multilabel"])
def test_rows_without_a_label_are_never_rare(kind: str) -> None:
    train = named(60, 20) if kind == "ner" else records(sentences(80), [["a"]] * 60 + [[]] * 20)
    for factor in (0.5, 1, 2):
        counts = Counter(augment(settings("punctuation", factor), kind, train).sources)
        empty = sum(counts[f"r{i}"] for i in range(60, 80))
        assert empty <= 20 * factor and counts.total() > 70 * factor


def test_entities_are_replaced_only_where_there_are_any() -> None:
    train = named(60, 20)
    for factor in (0.5, 1):
        facts = augment(settings("entity", factor), "ner", train).facts
        assert facts["rows"] == facts["by_label"]["PER"] > 0.8 * factor * 80
    found = augment(settings("entity,typo,swap"), "ner", train)
    drawn = [name for source, name in zip(found.sources, found.techniques, strict=True) if int(source[1:]) >= 60]
    assert set(drawn) == {"typo", "swap"}
    assert all(record.label for record, name in zip(found.new, found.techniques, strict=True) if name == "entity")
    assert found.facts["dropped"] < 5


def test_rows_whose_entities_would_end_inside_words_are_dropped() -> None:
    spans = [[{"start": 0, "end": 2, "label": "place"}], [{"start": 3, "end": 7, "label": "place"}]]
    train = records(["東京go now", "in Rome now"], spans, SPAN_LISTS)
    found = augment(settings("entity", 5), "ner", train)
    assert found.new.texts == ["in 東京 now"]  # in "Romego now" no word ends where the entity does
    dropped = "4 rows equal to others, 5 rows with entities that cut words"
    assert found.note() == f"augmentation: 1 row added to 2 (1 entity); dropped: {dropped}"
    train = records(["the #1 Nike shoe"], [[{"start": 7, "end": 11, "label": "brand"}]], SPAN_LISTS)
    found = augment(settings("delete", 20), "ner", train)
    assert set(found.new.texts) == {"#1 Nike shoe", "the #1 Nike"}  # "#Nike" is one word by the coarse rule


@pytest.mark.parametrize("kind", ["regression", "qa"])
def test_without_classes_every_row_serves_alike(kind: str) -> None:
    texts = sentences(12)
    if kind == "qa":
        answers = [[{"start": 0, "text": text[:3]}] for text in texts]
        train = records([f"which one of these {i}" for i in range(12)], answers, ANSWER_LISTS, text_pair=texts)
    else:
        train = records(texts, [str(i) for i in range(12)])
    found = augment(settings("swap,punctuation", 2), kind, train)
    assert set(Counter(found.sources).values()) <= {1, 2} and found.facts["by_label"] == {}
    assert found.facts["rows"] + found.facts["dropped"] == 24
    for record in found.new:
        if kind == "qa":
            assert record.text_pair is not None and isinstance(record.label, tuple)
            answer = record.label[0]
            assert isinstance(answer, Answer)
            assert record.text_pair[answer.start : answer.start + len(answer.text)] == answer.text


def test_each_row_depends_on_seed_identifier_and_copy_alone() -> None:
    texts, labels = sentences(40), ["a", "b"] * 20
    train = records(texts, labels)
    config = settings("typo,swap,delete,insert,punctuation", 3)
    first = {line["id"]: line for line in augment(config, "classification", train).lines()}
    turned = train.select(np.arange(40)[::-1])
    assert {line["id"]: line for line in augment(config, "classification", turned).lines()} == first
    other = {line["id"]: line for line in augment(settings("typo", 3, seed=7), "classification", train).lines()}
    same = augment(settings("typo", 3), "classification", train)
    assert {line["id"] for line in same.lines()} & set(other)
    assert any(line["text"] != other[line["id"]]["text"] for line in same.lines() if line["id"] in other)
    fewer = {line["id"]: line for line in augment(config, "classification", train[:20]).lines()}
    assert all(first[name] == line for name, line in fewer.items() if name in first)


def test_equal_texts_of_different_rows_are_edited_differently() -> None:
    train = records(sentences(1) * 12, ["a", "b"] * 6)
    assert augment(settings("punctuation"), "classification", train).facts["rows"] > 6


def test_no_new_row_equals_a_text_that_is_there() -> None:
    train = records(["one two", "two one", "red blue", "x"], ["a", "b", "a", "b"])
    test = records(["blue red"], ["a"])
    found = augment(settings("swap", 5), "classification", train, test)
    assert len(found.new) == 0 and found.facts["dropped"] == 20 and found.records.texts == train.texts
    advice = "choose other techniques, or a larger augmentation.factor"
    assert found.note() == f"augmentation: no row could be added to 4; dropped: 20 rows equal to others; {advice}"
    found = augment(settings("swap", 5), "classification", train)
    assert found.new.texts == ["blue red"]  # once


def test_equal_new_texts_stay_once_and_only_with_one_label() -> None:
    texts, config = ["red one two", "blue one two"], settings("delete", 20)
    found = augment(config, "classification", records(texts, ["a", "b"]))
    assert set(found.new.texts) == {"red one", "red two", "blue one", "blue two"}  # "one two" might be either
    for kind, labels in (("classification", ["a", "a"]), ("regression", ["1", "2"])):
        train = records(texts, labels)
        found = augment(config, kind, train)
        assert sorted(found.new.texts) == ["blue one", "blue two", "one two", "red one", "red two"]
        turned = augment(config, kind, train.select([1, 0]))
        assert {line["id"]: line for line in turned.lines()} == {line["id"]: line for line in found.lines()}


def test_new_rows_follow_the_old_ones_and_say_what_they_are() -> None:
    train = records(sentences(6), ["a", "b"] * 3, group=["g"] * 6)
    found = augment(settings("typo"), "classification", train)
    assert found.records[:6].table.equals(train.table) and len(found.records) == 12
    line = next(found.lines())
    assert list(line) == ["id", "of", "technique", "text", "label"] and line["id"] == f"{line['of']}~typo-1"
    assert found.records.table.slice(6)["row"].to_pylist() == [int(name[1:]) + 1 for name in found.sources]
    assert found.note() == "augmentation: 6 rows added to 6 (6 typo)"
    assert found.facts == {
        "names": ["typo"], "factor": 1.0, "rows": 6, "by_technique": {"typo": 6},
        "by_label": {"a": 3, "b": 3}, "dropped": 0,
    }  # fmt: skip


def test_pairs_are_edited_on_both_sides() -> None:
    train = records(sentences(8), ["a", "b"] * 4, text_pair=sentences(8, 1))
    line = next(augment(settings("typo"), "classification", train).lines())
    source = train[int(line["of"][1:])]
    assert line["text"] != source.text and line["text_pair"] != source.text_pair


def test_everything_that_does_not_suit_is_said_at_once(tmp_path: Path) -> None:
    config = settings("typos,entity,eda", 1, f"augmentation.lexicon={tmp_path}/none.txt", method="full")
    with pytest.raises(UsageError) as caught:
        Augmenter.of(config, SHAPES["classification"], records(["a"], ["b"]))
    assert caught.value.problems == [
        "augmentation.names: unknown augmentation 'typos'; did you mean 'typo'?",
        "augmentation.names=entity: replaces named entities, and classification has none",
        f"augmentation.lexicon: {tmp_path}/none.txt: no such file; check the path",
    ]
    with pytest.raises(UsageError, match=r"augmentation.names=synonym: needs synonyms; add augmentation\.lexicon=FILE"):
        Augmenter.of(settings("eda"), SHAPES["classification"], records(["a"], ["b"]))
    with pytest.raises(UsageError, match=r"augmentation\.lexicon: .*cannot be read \(File name too long\)"):
        Augmenter.of(settings("typo", 1, f"augmentation.lexicon={'x' * 300}"), SHAPES["ner"], records(["a"], ["b"]))
    assert Augmenter.of(settings("none"), SHAPES["ner"], records(["a"], ["b"])) is None


def test_shorthands_and_repetition() -> None:
    names = chosen_names(settings("swap, eda,typo,swap").augmentation)
    assert names == ["swap", "synonym", "insert", "delete", "typo"]


def test_synonyms_of_a_user(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("\ufeff# mine\ncard, plastic ,credit card\n\ncard\tace\nBank\tlender\n", encoding="utf-8")
    lexicon = load_lexicon(str(file))
    assert isinstance(lexicon, Groups)
    assert lexicon.synonyms("Card") == ("plastic", "credit card", "ace")
    assert lexicon.synonyms("ace") == ("card",) and lexicon.synonyms("lender") == ("Bank",)
    assert lexicon.synonyms("unknown") == ()
    train = records(["My CARD is late now friend"], ["a"])
    found = augment(settings("synonym", 10, f"augmentation.lexicon={file}"), "classification", train)
    assert set(found.new.texts) == {f"My {word} is late now friend" for word in ("PLASTIC", "CREDIT CARD", "ACE")}
    for content, message in (
        ("one\ntwo, three\nfour\n", "(?s)line 1: expected two or more words.*line 3"),
        ("# no\n", "no synonyms"),
    ):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match=message):
            load_lexicon(str(file))
    file.write_bytes(b"caf\xe9, bar\n")
    with pytest.raises(DataError, match=r"words\.txt"):
        load_lexicon(str(file))


def wordnet(folder: Path) -> Path:
    """A database of two parts of speech, as wndb(5WN) lays it out."""
    licence = "  1 This is a licence of one line.\n"
    data = {"noun": licence, "adj": licence}
    at: dict[str, int] = {}

    def entry(part: str, letter: str, key: str, words: list[str]) -> None:
        at[key] = len(data[part].encode())
        listed = " ".join(f"{word} 0" for word in words)
        data[part] += f'{at[key]:08d} 06 {letter} {len(words):02x} {listed} 001 @ 00000001 n 0000 | a gloss; "with"\n'

    entry("noun", "n", "card1", ["card"])
    entry("noun", "n", "card2", ["card", "identity_card", "Pass"])
    entry("noun", "n", "many", ["thing", *(f"thing{i}" for i in range(16))])
    entry("noun", "n", "rare", ["late", "wrong"])
    entry("noun", "n", "bill", ["bill", "invoice"])
    entry("adj", "s", "late", ["late(p)", "belated(a)"])
    index = {
        "noun": f"card n 2 1 @ 2 1 {at['card1']:08d} {at['card2']:08d}\nit n 1 0 1 0 {at['card2']:08d}\n"
        f"thing n 1 1 @ 1 1 {at['many']:08d}\nlate n 1 0 1 0 {at['rare']:08d}\n"
        f"bill n 1 1 @ 1 1 {at['bill']:08d}\n",
        "adj": f"late a 1 1 & 1 1 {at['late']:08d}\n",
    }
    for part in data:
        (folder / f"data.{part}").write_text(data[part], encoding="utf-8")
        (folder / f"index.{part}").write_text(licence + index[part], encoding="utf-8")
    return folder


def test_synonyms_of_wordnet(tmp_path: Path) -> None:
    lexicon = load_lexicon(str(wordnet(tmp_path)))
    assert isinstance(lexicon, WordNet)
    assert lexicon.synonyms("Card") == ("identity card", "Pass")  # of the first meaning that has another word
    assert len(lexicon.synonyms("thing")) == 16  # the number of words is hexadecimal
    assert lexicon.synonyms("late") == ("belated",)
    assert lexicon.synonyms("bill") == ("invoice",)  # on many lists of stop words
    assert lexicon.synonyms("it") == () and lexicon.synonyms("unknown") == ()


def test_a_damaged_wordnet_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a WordNet folder with index\.noun"):
        load_lexicon(str(tmp_path))
    index = wordnet(tmp_path) / "index.noun"
    for offset in (7, 99999999):
        index.write_text(f"card n 1 0 1 0 {offset:08d}\n", encoding="utf-8")
        with pytest.raises(DataError, match=rf"{tmp_path}/data\.noun: no entry at byte {offset}"):
            load_lexicon(str(tmp_path))
    index.write_text("card\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"index\.noun: line 1 is not an entry"):
        load_lexicon(str(tmp_path))
