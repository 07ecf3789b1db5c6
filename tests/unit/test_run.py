"""The typed record of a run, its schema, and the lock of its folder."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tunesmith import demo, signals
from tunesmith.config.schema import AdaptConfig, Config, OutputSettings
from tunesmith.console import runs_text
from tunesmith.data.layout import Layout
from tunesmith.data.shapes import ONE_LABEL
from tunesmith.data.writing import Target
from tunesmith.disk import path_sha256
from tunesmith.errors import ModelError, UsageError
from tunesmith.evaluation.intervals import Score
from tunesmith.evaluation.metrics import CLASSIFICATION_METRICS
from tunesmith.models.sealed import model_folder
from tunesmith.opening import opened
from tunesmith.progress import Progress
from tunesmith.run import entries
from tunesmith.run.changes import differences, digest
from tunesmith.run.folder import close, kept, locked, open_folder
from tunesmith.run.record import (
    Baseline,
    Best,
    DataPart,
    EnginePart,
    FilePart,
    Machine,
    ModelPart,
    Run,
    RunRecord,
    SplitPart,
    Titles,
)
from tunesmith.run.runs import continued, finished, runs_in
from tunesmith.run.schema import schema_text

ROOT = Path(__file__).parents[2]
SCORE = Score(0.9, 0.8, 1.0, 30)


def make_record(**given: Any) -> RunRecord:
    values: dict[str, Any] = {
        "task": "classification",
        "method": "full",
        "titles": Titles(task="text classification", method="full fine-tuning"),
        "model": ModelPart(name="m", revision=None),
        "data": DataPart(
            files=[FilePart(path="a.csv", sha256=None, rows=9)],
            splits=[SplitPart(name="train", rows=9, sha256="00", label_counts={"a": 9})],
            labels=["a"],
            layout=Layout(ONE_LABEL, "text"),
        ),
        "config": Config(),
        "seed": 42,
        "machine": Machine.here(threads=1),
        "engine": {"precision": EnginePart(state="float32", reason="asked for")},
        "metrics": {"test": {"accuracy": SCORE}},
        "described": dict(CLASSIFICATION_METRICS),
        "baselines": [Baseline(name="majority", title="majority", metrics={"accuracy": SCORE}, seconds=0.1)],
        "best": Best(step=1, metric="accuracy", value=0.9, inverse_regularisation=0.5),
        "warnings": [],
        "requested": Config(),
        "identity": {"config": "x", "data": "y"},
    }
    return RunRecord(**(values | given))


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = make_record()
    record.save(tmp_path)
    run = Run.load(tmp_path)
    assert run.content == record and run.record == json.loads((tmp_path / "run.json").read_text())
    assert run.metrics["test"]["accuracy"] == SCORE
    assert run.record["best"]["inverse_regularisation"] == 0.5
    assert run.record["described"]["ece"]["higher_is_better"] is False
    assert run.record["model"] == {"name": "m", "revision": None} and "augmentation" not in run.record["data"]


@pytest.mark.parametrize(
    ("keys", "value", "problem"),
    [
        (["data", "fils"], [], r"data\.fils: unknown key"),
        (["metrics", "test", "accuracy", "value"], "much", r"metrics\.test\.accuracy\.value: .*number"),
        (["metrics", "trial"], {}, r"metrics\.trial\.\[key\]"),
        (["config", "training", "lr"], -1, r"config\.training\.lr: .*greater than 0"),
        (
            ["config", "task", "name"],
            "stars",
            r"config\.task\.name: the task 'stars' is not installed; install the pack",
        ),
        (["config", "method", "name"], "attention", r"config\.method\.name: the method 'attention' is not installed"),
        (["data", "files"], [], r"data\.files: .*at least 1 item"),
        (["described"], {}, r"record: described has every metric"),
        (["status"], "well", r"status: .*'stopped', 'done' or 'failed'"),
        (["status"], "done", r"record: .*a finished run has best, timing"),
        (["version"], 2, "not a record of version 1"),
    ],
)
def test_what_no_record_holds_is_named(tmp_path: Path, keys: list[str], value: Any, problem: str) -> None:
    tree = make_record().to_dict()
    part = tree
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    (tmp_path / "run.json").write_text(json.dumps(tree))
    with pytest.raises(ModelError, match=rf"run\.json: {problem}"):
        Run.load(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "\ufeff{}", "[" * 100_000])
def test_a_damaged_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=r"run\.json: (damaged|not a record of version 1)"):
        Run.load(tmp_path)


@pytest.mark.parametrize("keys", [("titles",), ("described",), ("data", "layout")])
def test_a_record_of_an_earlier_state_is_called_so(tmp_path: Path, keys: tuple[str, ...]) -> None:
    tree = make_record().to_dict()
    part = tree
    for key in keys[:-1]:
        part = part[key]
    del part[keys[-1]]
    (tmp_path / "run.json").write_text(json.dumps(tree))
    with pytest.raises(ModelError, match=r"run\.json: made by another version of Tunesmith; train it again$"):
        Run.load(tmp_path)


def test_only_a_demo_is_replaced_by_a_demo_however_old_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "corpus", lambda: "the corpus")
    free = True

    def train(*_: Any, **options: Any) -> str:
        if not (free or options.get("overwrite")):
            raise UsageError("it is finished, or cannot go on")
        return "replaced" if options.get("overwrite") else "new, or goes on"

    monkeypatch.setattr(demo.api, "train", train)
    theirs, ours = (
        json.dumps({"version": 1, "data": {"files": [{"path": path}]}}) for path in ("my.csv", "the corpus")
    )
    for text in (theirs, ours, "{}", "", "[]", '{"data": 1}'):
        (tmp_path / "run.json").write_text(text)
        free = True
        assert demo.demo(str(tmp_path), Progress(quiet=True))[0] == "new, or goes on"
        free = False
        if text == ours:
            assert demo.demo(str(tmp_path), Progress(quiet=True))[0] == "replaced"
        else:
            with pytest.raises(UsageError):
                demo.demo(str(tmp_path), Progress(quiet=True))


def test_a_wrong_value_is_not_entered() -> None:
    record = make_record()
    with pytest.raises(ValueError, match="status"):
        record.status = "well"  # type: ignore[assignment]


def test_the_committed_schema_is_that_of_the_record() -> None:
    found = (ROOT / "docs" / "run.schema.json").read_text(encoding="utf-8")
    assert found == schema_text(), "run `python -m tunesmith.run.schema docs/run.schema.json`"


def test_the_status_is_true_however_a_run_ends(tmp_path: Path) -> None:
    record = make_record(status="stopped")
    with pytest.raises(ZeroDivisionError), kept(tmp_path, record, False, OutputSettings()):
        assert Run.load(tmp_path).content.status == "stopped"
        raise ZeroDivisionError("oh")
    assert (Run.load(tmp_path).content.status, Run.load(tmp_path).content.error) == ("failed", "oh")


IDENTITY = {
    "code: Tunesmith": "0" * 64,
    "library: torch": "2.13.0",
    "model file: config.json": "1" * 64,
    "data file: a.csv": "2" * 64,
    "rows: train": "3" * 64,
    "number: training.threads": "2",
    "machine: processor": "A, AVX2",
}


@pytest.mark.parametrize(
    ("part", "now", "said"),
    [
        ("code: Tunesmith", "f" * 64, "the code of Tunesmith changed; use the Tunesmith that began the run"),
        ("library: torch", "2.14.0", "torch was 2.13.0 and is now 2.14.0; install the version that began the run"),
        ("model file: config.json", "f" * 64, "model file: config.json changed; restore it"),
        ("model file: config.json", None, "model file: config.json is gone; restore it"),
        ("model file: vocab.txt", "f" * 64, "model file: vocab.txt is new; restore it"),
        ("data file: a.csv", "f" * 64, "data file: a.csv changed; restore it"),
        (
            "rows: train",
            "f" * 64,
            "the rows of train changed; restore the data, or the record if it was edited",
        ),
        ("number: training.threads", "1", "training.threads was 2 and is now 1; leave it out"),
        ("machine: processor", "B, AVX2", "the processor was A, AVX2 and is now B, AVX2; go on where the run began"),
    ],
)
def test_each_difference_is_named(part: str, now: str | None, said: str) -> None:
    old = make_record(identity=IDENTITY)
    after = {key: value for key, value in {**IDENTITY, part: now}.items() if value is not None}
    new = make_record(identity=after)
    assert differences(old, new) == [f"output.resume: {said}, or start anew with output.overwrite"]
    assert digest(old.requested, IDENTITY) != digest(new.requested, after)
    assert not differences(old, old)


def test_a_changed_seed_is_not_called_changed_data() -> None:
    other = Config.model_validate({"training": {"seed": 7, "threads": 1, "save_minutes": 1}})
    changed = make_record(requested=other, identity=IDENTITY | {"rows: train": "f" * 64})
    (problem,) = differences(make_record(identity=IDENTITY), changed)
    assert problem.startswith("output.resume: training.seed was 42 and is now 7; use the old value")


@pytest.mark.parametrize("edited", [{"seed": 7}, {"requested": Config.model_validate({"training": {"seed": 7}})}])
def test_a_seed_that_was_edited_in_the_record_is_not_called_changed_data(edited: dict[str, Any]) -> None:
    changed = make_record(identity=IDENTITY | {"rows: train": "f" * 64}, **{"requested": Config(), **edited})
    (problem,) = differences(changed, make_record(identity=IDENTITY))
    assert "run.json says seed" in problem and "it was edited, so restore it" in problem


def test_files_that_a_setting_names_are_not_told_besides() -> None:
    other = Config.model_validate({"data": {"valid": "b.csv"}, "model": {"name": "b"}})
    changed = IDENTITY | {"model file: config.json": "f" * 64, "model file: vocab.txt": "f" * 64}
    problems = differences(make_record(identity=IDENTITY), make_record(requested=other, identity=changed))
    assert [problem.split()[1] for problem in problems] == ["data.valid", "model.name"]


def test_files_that_were_moved_are_the_same_files() -> None:
    then = Config.model_validate({"data": {"valid": "b.csv"}, "model": {"name": "models/b"}})
    moved = Config.model_validate({"data": {"valid": "/data/c.csv"}, "model": {"name": "/models/b"}})
    files = {"data file: a.csv": "2" * 64, "data file: b.csv": "4" * 64}
    places = {"data file: /data/a.csv": "2" * 64, "data file: /data/c.csv": "4" * 64}
    swapped = {"data file: /data/c.csv": "4" * 64, "data file: /data/a.csv": "2" * 64}
    rest = {name: value for name, value in IDENTITY.items() if name not in files}
    old = make_record(requested=then, identity=rest | files)
    assert not differences(old, make_record(requested=moved, identity=rest | places))
    assert digest(then, rest | files) == digest(moved, rest | places)
    assert differences(old, make_record(requested=moved, identity=rest | swapped))
    assert digest(then, rest | files) != digest(moved, rest | swapped)
    without = moved.model_copy(update={"data": then.data.model_copy(update={"valid": None})})
    assert differences(old, make_record(requested=without, identity=rest | places))
    assert digest(then, rest | files) != digest(without, rest | places)


def test_a_run_goes_on_with_the_revision_of_the_hub_that_it_began_with() -> None:
    begun = make_record(identity=IDENTITY | {"model file: revision": "abc"})
    assert entries.pinned(Config(), begun).model.revision == "abc"
    for earlier in (None, make_record(identity=IDENTITY)):
        assert entries.pinned(Config(), earlier) == Config()


def test_a_run_of_an_earlier_version_is_not_gone_on_with() -> None:
    (problem,) = differences(make_record(identity={"config": "x"}), make_record(identity=IDENTITY))
    assert "begun by another version of Tunesmith" in problem


def test_a_run_that_is_replaced_counts_for_nothing_from_its_first_moment(tmp_path: Path) -> None:
    make_record(status="stopped").save(tmp_path)
    for name in ("checkpoints", "model"):
        (tmp_path / name).mkdir()
    for names in (["metrics.jsonl"], []):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(shutil, "rmtree", killed)
            with kept(tmp_path, make_record(status="stopped", identity=IDENTITY), False, OutputSettings()):
                pass
        assert open_folder(RunRecord, tmp_path, OutputSettings(), []) is None  # so the same command begins it
        assert all(not (tmp_path / name).exists() for name in names)
    with kept(tmp_path, make_record(status="stopped", identity=IDENTITY), False, OutputSettings()):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "run.json"]
        assert open_folder(RunRecord, tmp_path, OutputSettings(), []) is not None


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (None, "nothing is saved yet; the same command starts again"),
        (42, "saved at step 42; the same command goes on"),
    ],
)
def test_a_signal_before_the_first_step_tells_what_an_earlier_process_saved(
    step: int | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = signals.StopRequest()
    monkeypatch.setattr(signals, "current", lambda: stop)
    data, run = tmp_path / "data.csv", tmp_path / "run"
    data.write_text("text,label\n" + "".join(f"text {row},{'ab'[row % 2]}\n" for row in range(60)))
    if step is not None:
        (run / "checkpoints" / f"step-{step}").mkdir(parents=True)
        (run / "checkpoints" / f"step-{step}" / "manifest.json").write_text("{}")
        make_record(status="stopped", identity=IDENTITY).save(run)
    config = Config.model_validate({"output": {"out": str(run), "resume": True}})
    with opened({"train": data}, config, Progress(quiet=True)):
        assert stop.saved == said


def killed(*positional: Any, **named: Any) -> None:
    raise KeyboardInterrupt


def test_one_process_holds_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code = f"""
from pathlib import Path
from tunesmith.run.folder import locked
with locked(Path({str(folder)!r})):
    pass
"""
    with locked(folder):
        (folder / "run.json").write_text("{}")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"process {os.getpid()} is writing this run" in done.stderr
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("kept")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(target)
    with pytest.raises(ModelError, match=r"\.lock is no file"), locked(tmp_path / "run"):
        pass
    assert target.read_text() == "kept"


def test_a_folder_that_nothing_came_of_is_removed(tmp_path: Path) -> None:
    with locked(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "run").exists()


def test_the_name_of_a_new_folder_is_on_disk_like_what_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("tunesmith.disk.sync", lambda path: synced.append(Path(path)))
    with locked(tmp_path / "runs" / "one"):
        assert synced == [tmp_path, tmp_path / "runs"]


def test_what_a_finished_run_could_not_remove_is_removed(tmp_path: Path) -> None:
    timing = {"seconds": 1.0, "stages": {}, "tokens_per_second": 1.0}
    make_record(status="done", timing=timing).save(tmp_path)
    (tmp_path / "checkpoints" / "step-4").mkdir(parents=True)
    (tmp_path / ".work").mkdir()
    with pytest.raises(UsageError, match="a finished run is there already"):
        open_folder(RunRecord, tmp_path, OutputSettings(keep_checkpoints=True), [])
    assert (tmp_path / "checkpoints").exists() and not (tmp_path / ".work").exists()
    with pytest.raises(UsageError, match="a finished run is there already"):
        open_folder(RunRecord, tmp_path, OutputSettings(), [])
    assert not (tmp_path / "checkpoints").exists()


def test_what_a_run_reads_is_not_replaced(tmp_path: Path) -> None:
    timing = {"seconds": 1.0, "stages": {}, "tokens_per_second": 1.0}
    make_record(status="done", timing=timing).save(tmp_path)
    with pytest.raises(UsageError, match=r"would replace .*data\.csv"):
        open_folder(RunRecord, tmp_path, OutputSettings(overwrite=True), [str(tmp_path / "data.csv")])
    assert open_folder(RunRecord, tmp_path, OutputSettings(overwrite=True), ["elsewhere.csv"]) is None
    with pytest.raises(UsageError, match="a finished run is there already"):
        open_folder(RunRecord, tmp_path, OutputSettings(), [])


def test_the_hash_of_a_folder_is_over_names_and_contents(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        (folder / "x").write_text("1")
    assert path_sha256(str(first)) == path_sha256(str(second))
    (second / "x").rename(second / "y")
    assert path_sha256(str(first)) != path_sha256(str(second))
    assert path_sha256(str(tmp_path / "missing")) is None


def test_the_runs_of_a_folder_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, status in (("one", "done"), ("two", "stopped")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        facts = {"timing": {"seconds": 1.0, "stages": {}, "tokens_per_second": 1.0}} if status == "done" else {}
        record = make_record(status=status, **facts)
        record.data.files *= 3 if status == "stopped" else 1  # a column divides the file
        record.save(tmp_path / "runs" / name)
    (tmp_path / "runs" / "bad").mkdir()
    (tmp_path / "runs" / "bad" / "run.json").write_text("{")
    monkeypatch.chdir(tmp_path)
    listed = {run["run"]: run for run in (found.to_dict() for found in runs_in("runs"))}
    assert listed.keys() == {"runs/one", "runs/two", "runs/bad"}
    assert [listed[f"runs/{name}"]["status"] for name in ("one", "two", "bad")] == ["done", "stopped", "unreadable"]
    assert listed["runs/one"]["score"] == {"metric": "accuracy", "value": 0.9, "low": 0.8, "high": 1.0, "n": 30}
    assert listed["runs/one"]["method"] == "full" and listed["runs/one"]["data"] == ["a.csv"]
    assert listed["runs/one"]["bytes"] == (tmp_path / "runs" / "one" / "run.json").stat().st_size
    table = runs_text(runs_in("runs"))
    assert "accuracy 90.0 % (80.0 – 100.0)" in table and table.count("a.csv, 9 rows") == 2 and "stopped" in table
    assert [run.folder.name for run in runs_in(tmp_path / "runs" / "one")] == ["one"]
    with pytest.raises(UsageError, match="nowhere: no such folder"):
        runs_in("nowhere")


def stopped_run(folder: Path, path: str = "a.csv", **requested: Any) -> None:
    folder.mkdir(parents=True)
    Path(path).touch()
    config = Config.model_validate(requested)
    record = make_record(status="stopped", requested=config)
    record.data.files = [FilePart(path=path, sha256=None, rows=9)]
    record.save(folder)


def resuming(**given: Any) -> Config:
    return Config.model_validate({"output": {"resume": True}} | given)


def test_an_unfinished_run_goes_on_with_its_own_settings_and_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "r"
    stopped_run(run, training={"lr": 0.5, "epochs": 7}, method={"name": "full"})
    config, source = continued(resuming(output={"resume": True, "out": str(run)}), None, None)
    assert (config.training.lr, config.training.epochs, config.method.name, source) == (0.5, 7, "full", "a.csv")
    assert config.output.resume and config.output.out == str(run)
    asked = resuming(output={"resume": True, "out": str(run)}, training={"epochs": 8})
    config, source = continued(asked, "b.csv", None)
    assert (config.training.lr, config.training.epochs, source) == (0.5, 8, "b.csv")  # and is refused as changed


def test_the_only_unfinished_run_need_not_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"runs holds no unfinished run; .* or name the examples to begin one"):
        continued(resuming(), None, None)
    stopped_run(Path("runs", "one"))
    config, source = continued(resuming(), None, Path("runs", "data-auto"))
    assert (config.output.out, source) == (str(Path("runs", "one")), "a.csv")
    stopped_run(Path("runs", "two"), path="b.csv")
    assert continued(resuming(), "b.csv", None)[0].output.out == str(Path("runs", "two"))
    with pytest.raises(UsageError, match=r"2 unfinished runs .*one.*output\.out=FOLDER"):
        continued(resuming(), None, None)
    with pytest.raises(UsageError, match="holds no unfinished run"):
        continued(AdaptConfig.model_validate({"output": {"resume": True}}), None, None)


def test_where_there_is_no_run_yet_one_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stopped_run(Path("runs", "one"))
    for config in (resuming(output={"resume": True, "out": "nowhere"}), resuming()):
        assert continued(config, "c.csv", Path("runs", "c-auto")) == (config, "c.csv")


def test_a_run_that_is_being_written_is_not_the_one_to_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stopped_run(Path("runs", "busy"))
    stopped_run(Path("runs", "idle"))
    with locked(Path("runs", "busy")):
        states = {run.folder.name: run.to_dict()["status"] for run in runs_in("runs")}
        assert states == {"busy": "running", "idle": "stopped"}
        assert continued(resuming(), None, None)[0].output.out == str(Path("runs", "idle"))
    with pytest.raises(UsageError, match="2 unfinished runs"):
        continued(resuming(), None, None)


def test_of_a_finished_run_nothing_is_left_to_do(tmp_path: Path) -> None:
    data, timing = tmp_path / "a.csv", {"seconds": 1.0, "stages": {}, "tokens_per_second": 1.0}
    data.write_text("text,label")
    record = make_record(status="done", timing=timing)
    record.data.files = [FilePart(path=str(data), sha256=path_sha256(str(data)), rows=9)]
    record.save(tmp_path)
    asked = resuming(output={"resume": True, "out": str(tmp_path)})
    config, source = continued(asked, None, None)
    assert source == str(data) and finished(config, {"train": str(source)}) == record
    other = resuming(output={"resume": True, "out": str(tmp_path)}, training={"lr": 0.5})
    with pytest.raises(UsageError, match=r"finished, but training\.lr was not given and is now 0\.5"):
        finished(continued(other, None, None)[0], {"train": str(data)})
    with pytest.raises(UsageError, match=r"finished, but .*folder.* is not what it read"):
        (tmp_path / "folder").mkdir()
        finished(config, {"train": str(tmp_path / "folder")})
    data.write_text("text,label,id")
    with pytest.raises(UsageError, match=r"finished, but .*a\.csv changed; restore it"):
        finished(config, {"train": str(data)})


def test_what_is_no_part_of_a_run_is_not_deleted_with_it(tmp_path: Path) -> None:
    make_record(status="stopped", identity=IDENTITY).save(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    assert open_folder(RunRecord, tmp_path, OutputSettings(overwrite=True), []) is None
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"no part of a run \(notes\.txt\); move that elsewhere"):
        open_folder(RunRecord, tmp_path, OutputSettings(overwrite=True), [])


FINISHED = {"status": "done", "timing": {"seconds": 1.0, "stages": {}, "tokens_per_second": 1.0}}


def write_run(folder: Path, number: int) -> None:
    """The files of a run, less its record."""
    for name in ("model/config.json", "predictions/test.jsonl", "README.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(str(number))


def is_whole(folder: Path, number: int) -> bool:
    """Whether a folder holds the finished run of that number, and nothing missing."""
    try:
        record = RunRecord.load(folder)
        names = ("model/config.json", "predictions/test.jsonl", "README.md")
        return record.status == "done" and record.seed == number == int(
            {(folder / name).read_text() for name in names}.pop()
        )
    except (OSError, ModelError):
        return False


def replace_run(folder: Path, last: int) -> int:
    """Run 2 takes the place of run 1 in a process that dies before change `last` to the files; how many there were."""
    changes = 0

    def before(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal changes
        if event in ("os.link", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "tempfile.mkstemp"):
            changes += 1
            if changes == last:
                os._exit(9)

    if (child := os.fork()) == 0:
        try:
            sys.addaudithook(before)
            record = make_record(seed=2, identity=IDENTITY, timing=FINISHED["timing"])
            with locked(folder):
                earlier = open_folder(RunRecord, folder, OutputSettings(overwrite=True), [])
                with kept(folder, record, earlier is not None, OutputSettings()):
                    write_run(folder, 2)
                    close(folder, record, False)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_finished_run_that_is_replaced_is_whole_until_the_new_one_is(tmp_path: Path) -> None:
    for last in range(1, 200):
        run = tmp_path / str(last) / "run"
        run.mkdir(parents=True)
        make_record(seed=1, identity=IDENTITY, **FINISHED).save(run)
        write_run(run, 1)
        died = replace_run(run, last)
        whole = [is_whole(run, 1), is_whole(run / ".previous", 1), is_whole(run, 2)]
        assert any(whole), f"change {last}"
        if whole == [False, True, False]:
            with pytest.raises(ModelError, match=r"is not finished; continue it by its command, or give .*\.previous"):
                model_folder(run)
        assert replace_run(run, -1) == 0 and is_whole(run, 2)
        assert sorted(path.name for path in run.iterdir() if path.name != ".lock") == [
            "README.md", "metrics.jsonl", "model", "predictions", "run.json",
        ]  # fmt: skip
        if not died:
            break
    assert 20 < last < 199


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_files_are_copied_where_they_cannot_have_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    make_record(seed=1, identity=IDENTITY, **FINISHED).save(tmp_path)
    write_run(tmp_path, 1)
    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(RuntimeError), kept(tmp_path, make_record(seed=2, identity=IDENTITY), False, OutputSettings()):
        raise RuntimeError("it fails")
    assert RunRecord.load(tmp_path).status == "failed" and is_whole(tmp_path / ".previous", 1)


def test_the_same_command_goes_on_unless_it_begins_anew(tmp_path: Path) -> None:
    record, anew = make_record(seed=2, identity=IDENTITY), "the same command without output.overwrite"
    for folder in (fresh := tmp_path / "fresh", replaced := tmp_path / "replaced"):
        folder.mkdir()
    make_record(seed=1, identity=IDENTITY, **FINISHED).save(replaced)
    for folder, output, words in [
        (fresh, OutputSettings(), "the same command"),
        (fresh, OutputSettings(overwrite=True), anew),
        (fresh, OutputSettings(overwrite=True, resume=True), "the same command"),
        (replaced, OutputSettings(overwrite=True), "the same command"),
    ]:
        with kept(folder, record, False, output) as again:
            assert again == words


def test_a_replacement_goes_on_by_its_command_and_begins_anew_by_another(tmp_path: Path) -> None:
    make_record(seed=1, identity=IDENTITY, **FINISHED).save(tmp_path)
    write_run(tmp_path, 1)
    asked, record = OutputSettings(overwrite=True), make_record(status="stopped", identity=IDENTITY)
    assert open_folder(RunRecord, tmp_path, asked, []) is None
    with pytest.raises(KeyboardInterrupt), kept(tmp_path, record, False, OutputSettings()):
        raise KeyboardInterrupt
    earlier = open_folder(RunRecord, tmp_path, asked, [])
    assert earlier == record and entries.compare(earlier, record, asked)[0]
    other = make_record(seed=2, requested=Config.model_validate({"training": {"lr": 0.5}}), identity=IDENTITY)
    assert entries.compare(earlier, other, asked)[0] is False
    with pytest.raises(UsageError, match=r"training\.lr was not given and is now 0\.5"):
        entries.compare(earlier, other, OutputSettings(overwrite=True, resume=True))
    with pytest.raises(KeyboardInterrupt), kept(tmp_path, other, False, OutputSettings()):
        raise KeyboardInterrupt
    assert is_whole(tmp_path / ".previous", 1)


def test_nothing_is_written_into_a_model_that_vouches_for_its_files(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "manifest.json").touch()
    with pytest.raises(UsageError, match="is a model, whose files are listed"), locked(tmp_path / "model" / "run"):
        pass
    with pytest.raises(UsageError, match="is a model, whose files are listed"):
        Target.of(tmp_path / "model" / "answers.csv", overwrite=False)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["manifest.json"]
    assert Target.of(tmp_path / "answers.csv", overwrite=False)


def test_an_unfinished_run_says_which_file_it_does_not_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stopped_run(Path("runs", "one"))
    Path("a.csv").rename("b.csv")
    with pytest.raises(UsageError, match=r"reads a\.csv, which is not there as seen from here; name the file"):
        continued(resuming(), None, None)
