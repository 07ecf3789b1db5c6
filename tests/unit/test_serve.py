"""The server's answers: what `predict` says, or one JSON object that says why not."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

import tunesmith
from tests import tiny
from tests.serving import service
from tunesmith.serve.app import make_app
from tunesmith.serve.keys import Keys
from tunesmith.serve.service import Service
from tunesmith.tasks.predictions import rounded

KEY = "0123456789abcdef-key"
KINDS = ("classification", "multilabel", "regression", "ner", "qa")
Train = Callable[[str], Path]


def client(served: Service) -> TestClient:
    return TestClient(make_app(served), base_url="http://localhost", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def classifier(trained: Train) -> Iterator[Service]:
    made = service(trained("classification"))
    yield made
    made.close()


@pytest.fixture
def ask(classifier: Service) -> TestClient:
    return client(classifier)


def items_of(kind: str, rows: Path) -> list[Any]:
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    if kind == "qa":
        return [{"question": row["question"], "context": row["context"]} for row in found]
    return [row["text"] for row in found]


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_predict(kind: str, trained: Train) -> None:
    run = trained(kind)
    items = items_of(kind, run.parent / "rows.jsonl")[:20]
    texts = [tuple(item.values()) if isinstance(item, dict) else item for item in items]
    offline = [rounded(one.to_dict()) for one in tunesmith.load(run).predict(texts)]
    served = service(run)
    found = client(served).post("/predict", json={"inputs": items}).json()["predictions"]
    single = client(served).post("/predict", json={"input": items[0]}).json()
    served.close()
    assert [one.pop("id") for one in found] == [str(number) for number in range(1, 21)]
    assert found == offline
    assert single.pop("id") == "1" and single.keys() == offline[0].keys()


def test_top_k_and_threshold_are_those_of_predict(ask: TestClient, classifier: Service) -> None:
    found = ask.post("/predict", json={"input": "good cat", "top_k": 1, "threshold": 1.0}).json()
    (offline,) = classifier.predictor.predict(["good cat"], top_k=1, threshold=1.0)
    assert found == {"id": "1", **rounded(offline.to_dict())}
    assert found["abstained"] is True and found["label"] is None and len(found["scores"]) == 1


def test_whole_numbers_may_be_written_with_a_point(ask: TestClient, trained: Train, tmp_path: Path) -> None:
    found = ask.post("/predict", json={"input": "good cat", "top_k": 3265.0})
    assert found.json() == ask.post("/predict", json={"input": "good cat", "top_k": 3265}).json()
    for kind, right, wrong in (
        (
            "ner",
            {"spans": [{"start": 0.0, "end": 4.0, "label": "alpha"}]},
            {"spans": [{"start": 0.5, "end": 4, "label": "alpha"}]},
        ),
        ("qa", {"answer": "old", "start": 5.0}, {"answer": "old", "start": 5.5}),
    ):
        item = {"question": "the good one ?", "context": "good old cat"} if kind == "qa" else "good cat"
        file = tmp_path / kind
        served = service(trained(kind), corrections=file)
        assert client(served).post("/corrections", json={"input": item, **right}).status_code == 204
        assert client(served).post("/corrections", json={"input": item, **wrong}).status_code == 422
        served.close()
        assert ".0" not in file.read_text()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 400),
        ("{", 400),
        (b"\xff\xfe{}", 400),
        ('{"input": "a", "input": "b"}', 400),
        ('{"input": NaN}', 400),
        ("[" * 100_000, 400),
        ('{"threshold": ' + "9" * 5000 + "}", 400),
        ('{"inputs": [[[[[[[[["a"]]]]]]]]]}', 400),
        ("null", 422),
        ("[]", 422),
        ("{}", 422),
        ('{"input": 1}', 422),
        ('{"input": null}', 422),
        ('{"input": ["a"]}', 422),
        ('{"input": {"text": "a"}}', 422),
        ('{"input": "a", "inputs": ["a"]}', 422),
        ('{"inputs": "a"}', 422),
        ('{"inputs": []}', 422),
        ('{"inputs": ["a", 1]}', 422),
        ('{"input": "\\ud800"}', 422),
        ('{"input": "a", "model": "b"}', 422),
        ('{"input": "a", "top_k": 0}', 422),
        ('{"input": "a", "top_k": true}', 422),
        ('{"input": "a", "top_k": 1.5}', 422),
        ('{"input": "a", "threshold": 2}', 422),
        ('{"input": "a", "threshold": "0"}', 422),
        (json.dumps({"input": "x" * 100_001}), 422),
        (json.dumps({"inputs": ["a"] * 257}), 422),
        (json.dumps({"input": "x" * 2**20}), 413),
    ],
)
def test_a_bad_body_is_refused_with_its_reason(ask: TestClient, body: str | bytes, status: int) -> None:
    reply = ask.post("/predict", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == status, reply.text
    said = reply.json()
    assert said.keys() == {"error", "code"} and "xxxx" not in reply.text
    assert ask.post("/predict", json={"input": "good cat"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/predict", {}, 405),
        ("PUT", "/predict", {}, 405),
        ("POST", "/livez", {}, 405),
        ("GET", "/nothing", {}, 404),
        ("GET", "/docs", {}, 404),
        ("GET", "/predict/", {}, 404),
        ("POST", "/predict", {"content-type": "text/plain"}, 415),
        ("POST", "/predict", {"content-type": "application/json", "content-encoding": "gzip"}, 415),
        ("GET", "/livez", {"host": "elsewhere.example"}, 421),
        ("GET", "/livez", {f"x-{number}": "y" for number in range(120)}, 431),
        ("GET", "/livez", {"x-long": "y" * 17_000}, 431),
        ("POST", "/corrections", {"content-type": "application/json"}, 404),
    ],
)
def test_a_bad_request_is_refused_by_its_status(
    ask: TestClient, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    reply = ask.request(method, path, headers=headers, content=b"{}" if method == "POST" else None)
    assert (reply.status_code, set(reply.json())) == (status, {"error", "code"})


def test_states_and_facts(ask: TestClient, classifier: Service) -> None:
    for path in ("/livez", "/health", "/readyz", "/ready", "/", "/info", "/metrics", "/report", "/page/page.js"):
        assert ask.get(path).status_code == ask.head(path).status_code == 200
        assert ask.options(path).headers["allow"] == "GET, HEAD"
    assert ask.head("/nowhere").status_code == 404
    assert ask.head("/predict").headers["allow"] == "POST"
    info = ask.get("/info").json()
    assert info["labels"] == list(tiny.LABELS) and info["input"] == "text" and info["task"] == "classification"
    assert info["key_needed"] is info["corrections"] is False and info["report"] is True
    classifier.draining = lambda: True
    try:
        reply = ask.get("/readyz")
        assert (reply.status_code, ask.get("/livez").status_code) == (503, 200)
    finally:
        classifier.draining = lambda: False


def test_every_answer_is_named_and_lets_a_browser_do_nothing(ask: TestClient) -> None:
    for path in ("/livez", "/nothing", "/report"):
        reply = ask.get(path, headers={"x-request-id": "mine-1"})
        assert reply.headers["x-request-id"] == "mine-1"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert "access-control-allow-origin" not in reply.headers
    report = ask.get("/report")
    assert report.text.startswith("<!DOCTYPE html>") and "sandbox" in report.headers["content-security-policy"]
    made = ask.get("/livez", headers={"x-request-id": "no name; of\tours"}).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", made)


def test_a_key_is_needed_but_for_health_and_page(trained: Train, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# two of them\nanother-key-of-mine\n\n{KEY}\n")
    file.chmod(0o600)
    served = service(trained("classification"), Keys.load(str(file)))
    ask, body = client(served), {"input": "good cat"}
    wrong = [{}, {"authorization": "Bearer nonsense"}, {"authorization": KEY}, {"authorization": f"Basic {KEY}"}]
    for headers in wrong:
        for reply in (ask.post("/predict", json=body, headers=headers), ask.get("/metrics", headers=headers)):
            assert reply.status_code == 401 and reply.headers["www-authenticate"] == "Bearer"
        assert ask.get("/info", headers=headers).json() == {"key_needed": True}
        assert ask.get("/livez", headers=headers).status_code == ask.get("/readyz").status_code == 200
    right = {"authorization": f"Bearer {KEY}"}
    assert ask.post("/predict", json=body, headers=right).status_code == 200
    assert ask.get("/info", headers=right).json()["labels"] == list(tiny.LABELS)
    served.close()


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (KEY, 0o644, "chmod 600"),
        ("short", 0o600, "line 1"),
        (f"{KEY} {KEY}", 0o600, "line 1"),
        ("# none\n", 0o600, "no key"),
    ],
)
def test_a_file_of_keys_that_is_not_safe_is_refused(content: str, mode: int, words: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(content)
    file.chmod(mode)
    with pytest.raises(tunesmith.UsageError, match=words) as caught:
        Keys.load(str(file))
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("owner", "mode", "safe"),
    [(7, 0o600, True), (7, 0o640, False), (0, 0o440, True), (0, 0o444, False), (8, 0o400, False)],
)
def test_a_secret_that_root_hands_out_is_safe(
    owner: int, mode: int, safe: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_text(KEY)
    facts = SimpleNamespace(st_mode=stat.S_IFREG | mode, st_uid=owner)
    seen = SimpleNamespace(lstat=lambda path: facts, geteuid=lambda: 7)
    monkeypatch.setattr("tunesmith.serve.keys.os", seen)
    if safe:
        assert Keys.load(str(file))
    else:
        with pytest.raises(tunesmith.UsageError, match="others can read"):
            Keys.load(str(file))


def test_another_interface_needs_keys_or_a_word(trained: Train) -> None:
    from tunesmith.serve import serve

    with pytest.raises(tunesmith.UsageError, match="no_keys"):
        serve(trained("classification"), host="0.0.0.0")
    with pytest.raises(tunesmith.UsageError, match="contradicts"):
        serve(trained("classification"), keys="a", no_keys=True)


CSV, LINES = {"content-type": "text/csv"}, {"content-type": "application/x-ndjson"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_comes_back_as_predict_writes_it(kind: str, trained: Train, tmp_path: Path) -> None:
    run = trained(kind)
    served, rows = service(run), run.parent / "rows.jsonl"
    reply = client(served).post("/predict/file", content=rows.read_bytes(), headers=LINES)
    served.close()
    tunesmith.write_predictions(run, rows, tmp_path / "offline.jsonl")
    assert reply.status_code == 200 and "attachment" in reply.headers["content-disposition"]
    assert reply.text == (tmp_path / "offline.jsonl").read_text()


def test_a_large_file_is_answered_by_its_parameters(ask: TestClient, classifier: Service, tmp_path: Path) -> None:
    file = tmp_path / "many.csv"
    file.write_text("body;text\n" + 'good "cat"\n;old\n'.replace("\n;", ";").replace("old", "old\n") * 5_000)
    query = {"text": "text", "delimiter": ";", "top_k": "2.0"}
    reply = ask.post("/predict/file", params=query, content=file.read_bytes(), headers=CSV)
    tunesmith.write_predictions(classifier.folder, file, tmp_path / "out.csv", text="text", delimiter=";", top_k=2)
    assert reply.text == (tmp_path / "out.csv").read_text() and reply.text.count("\n") == 5_001


@pytest.mark.parametrize(
    ("query", "headers", "body", "status", "words"),
    [
        ({}, CSV, b"a,b\n1,2\n", 422, "columns there"),
        (
            {"text": "elsewhere"},
            CSV,
            b"text,n\na,1\n",
            422,
            "the file: text: no column 'elsewhere'; columns there: 'text', 'n'",
        ),
        (
            {"id": "elsewhere"},
            LINES,
            b'{"text": "a"}\n',
            422,
            "the file: id: no column 'elsewhere'; columns there: 'text'",
        ),
        ({"text": ["text", "n"]}, CSV, b"text,n\na,1\n", 422, "`text`: stands more than once"),
        ({}, CSV, b"text\n\xff\n", 422, "the file"),
        ({}, LINES, b'{"text": "a"\n', 422, "the file"),
        ({"model": "other"}, CSV, b"text\na\n", 422, "unknown parameter"),
        ({"top_k": "many"}, CSV, b"text\na\n", 422, "top_k"),
        ({"top_k": "2.5"}, CSV, b"text\na\n", 422, "top_k"),
        ({"threshold": "nan"}, CSV, b"text\na\n", 422, "threshold"),
        ({"only": "yes"}, CSV, b"text\na\n", 422, "only"),
        ({"encoding": "nonsense"}, CSV, b"text\na\n", 422, "encoding"),
        ({}, {"content-type": "application/json"}, b"[]", 415, "text/csv"),
        ({}, CSV, b"text\nok\n" + b"x" * 100_001, 422, "row 3"),
        ({}, CSV, b"text\n" + b"x\n" * 2**23, 413, "bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(
    trained: Train, query: dict[str, Any], headers: dict[str, str], body: bytes, status: int, words: str
) -> None:
    served = service(trained("classification"), file_bytes=2**20)
    reply = client(served).post("/predict/file", params=query, content=body, headers=headers)
    served.close()
    assert (reply.status_code, set(reply.json())) == (status, {"error", "code"})
    assert words in reply.json()["error"] and "/tmp" not in reply.text and "tunesmith-" not in reply.text


def test_a_parameter_in_the_address_is_refused(trained: Train) -> None:
    """It would be overlooked, and the answer be that to something else."""
    served = service(trained("classification"))
    reply = client(served).post("/predict", params={"<b>top_k": 1}, json={"input": "good"})
    served.close()
    assert reply.status_code == 422 and "in the body" in reply.json()["error"]
    assert "top_k" not in reply.text, "nothing of a request stands in its answer"


def test_a_correction_of_nothing_is_refused(trained: Train, tmp_path: Path) -> None:
    """A single empty text would make a small file of corrections unfit for training."""
    served = service(trained("classification"), corrections=tmp_path / "corrections.jsonl")
    reply = client(served).post("/corrections", json={"input": " \n", "label": "beta"})
    served.close()
    assert reply.status_code == 422 and "empty" in reply.json()["error"]
    assert (tmp_path / "corrections.jsonl").read_text() == ""


RIGHT: dict[str, Any] = {
    "classification": {"label": "beta"},
    "multilabel": {"labels": ["alpha", "gamma"]},
    "regression": {"value": 1.5},
    "ner": {"spans": [{"start": 0, "end": 4, "label": "alpha"}]},
    "qa": {"answer": "old"},
}


def test_where_nothing_can_be_written_texts_are_answered_and_files_refused(
    trained: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained("classification")
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    served = service(run)  # its first answers are here
    ask = client(served)
    assert ask.post("/predict", json={"inputs": ["a good film", "a bad one"]}).status_code == 200
    for _ in range(9):  # a refusal takes no other's turn
        reply = ask.post("/predict/file", content=b"text\na\n", headers=CSV)
        assert (reply.status_code, reply.json()["code"]) == (503, "disk")
    monkeypatch.undo()
    assert ask.post("/predict/file", content=b"text\na\n", headers=CSV).status_code == 200
    served.close()


WRONG: dict[str, list[Any]] = {
    "classification": ["delta", "", None, ["beta"]],
    "multilabel": ["alpha", [1], ["delta"]],
    "regression": ["1", None, True],
    "ner": [[{"start": 0, "end": 99, "label": "alpha"}], [{"start": 2, "end": 1, "label": "alpha"}], [1], "x",
            [{"start": 0, "end": 4, "label": "delta"}], [{"start": 0, "end": 4, "label": "cat"}] * 2],
    "qa": [1, "elsewhere"],
}  # fmt: skip


def test_a_correction_that_does_not_fit_on_the_disk_leaves_no_half_line(
    trained: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, file, write = trained("classification"), tmp_path / "corrections.jsonl", os.write
    ask = client(service(run, corrections=file))
    right = {"input": "a text", "label": ask.get("/info").json()["labels"][0]}
    assert ask.post("/corrections", json=right).status_code == 204
    before = file.read_bytes()
    monkeypatch.setattr(
        "tunesmith.serve.corrections.os.write",
        lambda number, line: write(number, line[: 5 if line[:1] == b"{" else None]),
    )
    assert ask.post("/corrections", json=right).status_code == 503
    assert file.read_bytes() == before


@pytest.mark.parametrize("kind", KINDS)
def test_corrections_are_rows_that_train_reads(kind: str, trained: Train, tmp_path: Path) -> None:
    run, file = trained(kind), tmp_path / "corrections.jsonl"
    served = service(run, corrections=file)
    ask, ((key, right),) = client(served), RIGHT[kind].items()
    items = items_of(kind, run.parent / "rows.jsonl")[1:2] * 3
    items += ["good cat 1\n"] if kind != "qa" else []
    for item in items:
        assert ask.post("/corrections", json={"input": item, key: right}).status_code == 204
    for value in WRONG[kind]:
        reply = ask.post("/corrections", json={"input": items[0], key: value})
        assert reply.status_code == 422, value
    assert ask.post("/corrections", json={"input": items[0]}).status_code == 422
    served.close()
    assert os.stat(file).st_mode & 0o077 == 0 and len(file.read_text().splitlines()) == len(items)
    read = tunesmith.check(run.parent / "rows.jsonl", valid=file, test=file, task="auto").read
    assert read.splits["valid"].rows == len(items)


@pytest.mark.parametrize("kind", KINDS)
def test_the_examples_of_the_interface_are_what_it_answers(kind: str, trained: Train, tmp_path: Path) -> None:
    served = service(trained(kind), corrections=tmp_path / "corrections.jsonl")
    ask = client(served)
    said = ask.get("/openapi.json").json()
    assert set(said["paths"]) == {"/predict", "/predict/file", "/corrections", "/livez", "/readyz", "/info", "/metrics"}
    predict = said["paths"]["/predict"]["post"]
    (asked,), (answered,) = (one["content"].values() for one in (predict["requestBody"], predict["responses"]["200"]))
    for name, example in asked["examples"].items():
        assert ask.post("/predict", json=example["value"]).json() == answered["examples"][name]["value"]
    (example,) = said["paths"]["/corrections"]["post"]["requestBody"]["content"].values()
    assert ask.post("/corrections", json=example["example"]).status_code == 204
    assert (
        ask.get("/info").json()
        == said["paths"]["/info"]["get"]["responses"]["200"]["content"]["application/json"]["example"]
    )
    served.close()


def test_the_place_of_a_right_answer_can_be_said(trained: Train, tmp_path: Path) -> None:
    served = service(trained("qa"), corrections=tmp_path / "corrections.jsonl")
    right = {"input": {"question": "where ?", "context": "cat and cat"}, "answer": "cat"}
    sent = [
        client(served).post("/corrections", json=right | {"start": start}).status_code for start in (8, 7, -3, True)
    ]
    served.close()
    (row,) = [json.loads(line) for line in (tmp_path / "corrections.jsonl").read_text().splitlines()]
    assert sent == [204, 422, 422, 422] and row["answers"] == [{"text": "cat", "answer_start": 8}]


def test_figures_count_what_was_answered(trained: Train) -> None:
    served = service(trained("classification"))
    ask = client(served)
    before = figures(ask)
    ask.post("/predict", json={"inputs": ["good cat"] * 60, "threshold": 1.0})
    ask.post("/predict", content="{")
    found = figures(ask)
    served.close()
    assert before["tunesmith_texts_total"] == 0 and found["tunesmith_texts_total"] == 60
    assert found['tunesmith_requests_total{route="/predict",status="200"}'] == 1
    assert found['tunesmith_requests_total{route="/predict",status="415"}'] == 1
    assert found["tunesmith_abstained_share"] == 1 and found["tunesmith_batch_texts_sum"] == 60
    assert sum(value for name, value in found.items() if name.startswith("tunesmith_labels_total")) == 60
    drift = found['tunesmith_drift{of="lengths"}']
    assert drift > found['tunesmith_drift_by_chance{of="lengths"}'] and 0.5 < drift <= 1


def figures(ask: TestClient) -> dict[str, float]:
    lines = ask.get("/metrics").text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}
