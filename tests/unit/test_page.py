"""The page in a browser: what a person enters, sees, corrects and downloads."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from selenium.webdriver.common.keys import Keys as Key

import tunesmith
from tests import tiny
from tests.browser import Browser, chromium
from tests.serving import listening, service
from tunesmith.serve.keys import Keys

KEY = "0123456789abcdef-key"
EVIL = '<img src=x onerror="window.ran = 1"></p><script>window.ran = 1</script>'
PHONE, DESKTOP = 400, 1280
PERCENT = "{:.1f} %"

Open = Callable[..., str]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture(scope="module")
def finder(tiny_model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run of a model that has learned to find cats."""
    folder = tmp_path_factory.mktemp("finder")
    rows, model = tiny.write_rows("ner", folder / "rows.jsonl", 100), str(tiny_model_folder("bert"))
    made = tunesmith.train(rows, model=model, method="full", epochs=5, lr=0.03, out=str(folder / "run"))
    return made.folder


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the corrections, a file for each kind of task."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def address(browser: Browser, trained: Callable[[str], Path], finder: Path, kept: Path) -> Iterator[Open]:
    """Kind of task → address of a server, which is started when it is first asked for."""
    found: dict[str, str] = {}
    stops = []
    with ExitStack() as servers:

        def address_of(kind: str) -> str:
            if kind not in found:
                run = finder if kind == "ner" else trained(kind)
                served = service(run, corrections=kept / f"{kind}.jsonl")
                found[kind], stop = servers.enter_context(listening(served))
                stops.append(stop)
            return found[kind]

        yield address_of
        for stop in stops:
            stop()


def corrections(file: Path) -> list[dict[str, Any]]:
    """What was written, which `check` reads, too."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert sum(split.rows for split in tunesmith.check(file).read.splits.values()) == len(rows)
    return rows


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_a_text_gets_its_label_with_scores_as_bars(browser: Browser, address: Open, width: int) -> None:
    here = address("classification")
    browser.open(here, width)
    browser.predict("a good film")
    said = httpx.post(f"{here}/predict", json={"input": "a good film"}).json()
    ranked = sorted(said["scores"].items(), key=lambda one: -one[1])
    assert browser.text("#said") == browser.texts("#bars .picked")[0] == said["label"]
    assert browser.texts("#bars .name") == [name for name, _ in ranked]
    assert browser.texts("#bars .share") == [PERCENT.format(100 * score) for _, score in ranked]
    widths = browser.run("return [...document.querySelectorAll('.meter i')].map((one) => parseFloat(one.style.width))")
    assert widths == pytest.approx([100 * score for _, score in ranked])
    assert browser.text("#heard").startswith(f"Label: {said['label']}.")
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.told() == []
    assert all(one.startswith((here, "blob:", "data:")) for one in browser.requested())


def test_all_of_it_goes_by_keyboard(browser: Browser, address: Open, kept: Path) -> None:
    browser.open(address("classification"), PHONE)
    seen = []
    while browser.focus != "text":
        browser.press(Key.TAB)
        seen.append(browser.focus)
    assert seen == ["Try it", "Predict a file", "report", "text"]
    browser.press("a bad film", Key.TAB, Key.TAB)
    assert browser.focus == "Predict"
    outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle")
    browser.press(Key.ENTER)
    browser.until("return document.getElementById('said').textContent")
    browser.press(Key.TAB)
    assert outline == "solid" and browser.focus == "wrong"
    browser.press(Key.ENTER)
    assert browser.focus == "right-label"
    browser.press("gam", Key.TAB, Key.ENTER)
    browser.until("return document.getElementById('kept').textContent")
    assert browser.focus == "text" and not browser.find("#correction").is_displayed()
    assert corrections(kept / "classification.jsonl") == [{"text": "a bad film", "label": "gamma"}]
    assert browser.told() == []


def test_below_the_threshold_the_model_abstains(browser: Browser, address: Open) -> None:
    browser.open(address("classification"))
    browser.predict("good")
    browser.find("#threshold").send_keys(Key.END)
    browser.until("return document.getElementById('said').textContent === 'No label'")
    assert browser.text("#threshold-value") == "1.00" and "less sure" in browser.text("#said-more")


def test_several_labels_and_values_are_corrected(browser: Browser, address: Open, kept: Path) -> None:
    browser.open(address("multilabel"))
    browser.predict("good film")
    browser.click("#wrong")
    for box in browser.driver.find_elements("css selector", "#right input"):
        if box.is_selected() != (box.get_attribute("value") == "beta"):
            box.click()
    browser.send("#correction")
    assert corrections(kept / "multilabel.jsonl") == [{"text": "good film", "labels": ["beta"]}]
    browser.open(address("regression"))
    assert not browser.find("#narrowing").is_displayed()
    browser.predict("good film")
    float(browser.text("#said"))
    browser.click("#wrong")
    browser.send("#correction")
    assert browser.text("#correction-trouble") == "Give the right value first."
    browser.find("#right-value").send_keys("2.5")
    browser.send("#correction")
    assert corrections(kept / "regression.jsonl") == [{"text": "good film", "score": 2.5}]


def test_entities_are_marked_and_corrected_beside_emoji_and_markup(
    browser: Browser, address: Open, finder: Path, kept: Path
) -> None:
    text = f"👩‍👩‍👧 good 😀 cat שלום {EVIL}\nthe cat"
    browser.open(address("ner"), PHONE)
    browser.predict(text)
    (offline,) = tunesmith.load(finder).predict([text])
    spans = offline.spans or ()
    assert "cat" in [span.text for span in spans]
    assert browser.text("#marked") == text and browser.texts("#marked mark") == [span.text for span in spans]
    labels = browser.run("return [...document.querySelectorAll('#marked mark')].map((one) => one.dataset.label)")
    assert labels == [span.label for span in spans]
    assert browser.run("return window.ran ?? document.querySelectorAll('#marked :not(mark)').length") == 0

    browser.click("#wrong")
    while buttons := browser.driver.find_elements("css selector", ".listed button"):
        buttons[0].click()
    shift = browser.driver.switch_to.active_element
    assert shift.get_attribute("role") == "textbox"
    browser.press(Key.CONTROL + Key.HOME, "not to be entered", Key.BACKSPACE)
    browser.press(*[Key.ARROW_RIGHT] * 7, *[Key.SHIFT + Key.ARROW_RIGHT] * 5)  # the first steps over three people
    browser.shows("#right [role=status]", "Selected: 😀 cat")
    browser.press(Key.TAB, "beta", Key.TAB, Key.ENTER)
    assert browser.text("#right [contenteditable]") == text and browser.texts("#right mark") == ["😀 cat"]
    browser.send("#correction")
    start = text.index("😀")
    assert corrections(kept / "ner.jsonl") == [
        {"text": text, "spans": [{"start": start, "end": start + 5, "label": "beta"}]}
    ]
    assert browser.told() == []


def test_an_answer_is_marked_and_corrected(browser: Browser, address: Open, kept: Path) -> None:
    browser.open(address("qa"))
    question, context = "the good one ?", "😀 film and a good film"
    browser.fill("#question", question)
    browser.fill("#context", context)
    browser.send("#ask")
    assert browser.text("#marked") == context
    browser.click("#wrong")
    browser.press(Key.CONTROL + Key.END, *[Key.SHIFT + Key.ARROW_LEFT] * 5)
    browser.shows("#right [role=status]", "Right answer: film")
    browser.send("#correction")
    browser.send("#ask")
    browser.click("#wrong")
    browser.click("#right button")
    browser.send("#correction")
    row = {"question": question, "context": context}
    found = [{"text": "film", "answer_start": context.rindex("film")}]
    assert corrections(kept / "qa.jsonl") == [row | {"answers": found}, row | {"answers": []}]
    assert browser.told() == []


def test_no_other_script_and_no_other_server(browser: Browser, address: Open) -> None:
    browser.open(address("classification"))
    inline = "const made = document.createElement('script'); made.append('window.ran = 1'); document.body.append(made);"
    browser.run(inline)
    assert browser.run("return window.ran") is None
    assert any("Content Security Policy" in line or "TrustedScript" in line for line in browser.told())
    for broken in ("document.body.innerHTML = '<b>'", "document.body.setAttribute('onclick', 'window.ran = 1')"):
        assert browser.run(f"try {{ {broken}; return 'done' }} catch {{ return 'refused' }}") == "refused", broken
    other = address("qa")
    assert browser.run("return fetch(arguments[0]).then(() => 'sent', () => 'refused')", other) == "refused"


def test_what_goes_wrong_is_said_in_plain_words(browser: Browser, address: Open) -> None:
    browser.open(address("classification"))
    browser.predict("x" * 100_001)
    assert browser.text("#ask-trouble") == "Input: expected at most 100,000 characters, found 100,001."
    answers = "window.fetch = async () => new Response(arguments[1], { status: arguments[0], headers: arguments[2] })"
    for status, body, headers, words in (
        (429, '{"error": "full"}', {"retry-after": "3"}, "Try again in 3 seconds."),
        (503, '{"error": "stopping"}', {}, "cannot answer now (stopping)"),
        (500, "", {"x-request-id": "4711"}, "4711"),
        (502, "<html>", {}, "refused this (status 502)"),
    ):
        browser.run(answers, status, body, headers)
        browser.predict("good")
        assert words in browser.text("#ask-trouble")
    browser.run("window.fetch = () => Promise.reject(new TypeError())")
    browser.predict("good")
    assert "Is it still running?" in browser.text("#ask-trouble")


def test_the_report_is_one_link_away(browser: Browser, address: Open) -> None:
    browser.open(address("classification"))
    browser.click("#report")
    browser.until("return document.querySelector('.hero .value')?.textContent")
    assert browser.driver.title.endswith("Tunesmith report")
    assert browser.run("return getComputedStyle(document.querySelector('.hero')).display") == "grid"
    assert browser.told() == []


def test_a_key_is_asked_for_and_nothing_told_before(
    browser: Browser, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text(KEY)
    (tmp_path / "keys").chmod(0o600)
    served = service(trained("classification"), Keys.load(str(tmp_path / "keys")))
    with listening(served) as (here, _):
        browser.open(here)
        assert browser.focus == "key" and browser.told() == [] and not browser.find("#house").is_displayed()
        assert browser.text("#name") == "A key is needed"
        for given in ("wrong", KEY):
            browser.find("#key").send_keys(given)
            browser.send("#door")
            assert bool(browser.text("#door-trouble")) is (given != KEY)
        browser.predict("good")
        assert browser.text("#said") and not browser.find("#wrong").is_displayed()
        browser.click("#report")
        assert "<html" in browser.downloaded("report.html").read_text()
        assert browser.run("return localStorage.length + sessionStorage.length + document.cookie.length") == 0


DROP = """
const files = new DataTransfer();
files.items.add(new File([arguments[0]], arguments[1]));
document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: files, bubbles: true }));
"""


def test_a_dropped_table_comes_back_with_predictions(browser: Browser, address: Open) -> None:
    here = address("classification")
    texts = ["a good film", 'with "quotes", and\na line', "😀 card"]
    table = "nr,words\r\n" + "".join(
        f'{number},"{text.replace(chr(34), 2 * chr(34))}"\r\n' for number, text in enumerate(texts)
    )
    browser.open(here, PHONE)
    browser.run(DROP, table, "some rows.csv")
    browser.find("#column-text").send_keys("words")
    browser.send("#table")
    with browser.downloaded("some rows-predictions.csv").open(newline="", encoding="utf-8-sig") as lines:
        rows = list(csv.DictReader(lines))
    said = httpx.post(f"{here}/predict", json={"inputs": texts}).json()["predictions"]
    assert [row["words"] for row in rows] == texts and [row["nr"] for row in rows] == ["0", "1", "2"]
    assert [row["prediction"] for row in rows] == [one["label"] for one in said]
    assert browser.text("#progress").startswith("Done: some rows-predictions.csv") and browser.told() == []


def test_the_columns_of_questions_and_contexts_can_be_named(browser: Browser, address: Open) -> None:
    browser.open(address("qa"))
    browser.run(DROP, '{"a": "good ?", "b": "a good film"}\n', "asked.NDJSON")
    browser.find("#column-question").send_keys("a")
    browser.find("#column-context").send_keys("b")
    browser.send("#table")
    assert browser.text("#table-trouble") == ""
    (row,) = [json.loads(line) for line in browser.downloaded("asked-predictions.jsonl").read_text().splitlines()]
    assert row["a"] == "good ?" and "prediction" in row


def test_a_pasted_table_that_is_none_is_told(browser: Browser, address: Open) -> None:
    browser.open(address("classification"))
    browser.send("#table")
    assert browser.text("#table-trouble") == "Choose a file, or paste a table first."
    browser.click("summary")
    browser.fill("#pasted", "a,b\n1,2\n")
    browser.send("#table")
    assert browser.text("#table-trouble") and not browser.text("#progress")
