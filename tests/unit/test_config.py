from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith import registry
from tunesmith.config.loading import MAX_CONFIG_BYTES, dump, fields, flags, resolve
from tunesmith.config.schema import Config
from tunesmith.errors import UsageError


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def to_file(text: str | bytes) -> Path:
        file = tmp_path / "config.yaml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return to_file


def problems(*args: Any, **kwargs: Any) -> list[str]:
    with pytest.raises(UsageError) as caught:
        resolve(*args, **kwargs)
    return caught.value.problems


def test_without_anything_all_values_are_the_defaults() -> None:
    assert resolve() == Config()


def test_what_is_given_twice_does_not_contradict_itself() -> None:
    twice = ("training.epochs=1", "training.epochs=2", "training.lr=1e-4")
    assert problems(options={"epochs": 3, "lr": 0.0001}, sets=twice) == [
        "--set training.epochs=1: contradicts --epochs 3; give one of them",
        "--set training.epochs=2: contradicts --set training.epochs=1; give one of them",
    ]


def test_precedence_is_file_then_flags_then_set(write: Any) -> None:
    file = write("training: {epochs: 2, seed: 2, batch_size: 2}\n")
    config = resolve(file, {"seed": 3, "lr": None}, ("training.batch_size=4",))
    assert (config.training.epochs, config.training.seed, config.training.batch_size) == (2, 3, 4)
    assert config.training.lr is None


@pytest.mark.parametrize("text", ["", "# nothing\n", "training:\n", "{}"])
def test_empty_files_and_sections_are_the_defaults(write: Any, text: str) -> None:
    assert resolve(write(text)) == Config()


def test_scalars_are_read_as_yaml_1_2(write: Any) -> None:
    config = resolve(write("data: {label: no, text: on, id: '010'}\ntraining: {lr: 1e-5, head_lr: 1E-3}\n"))
    assert (config.data.label, config.data.text, config.data.id) == ("no", "on", "010")
    assert (config.training.lr, config.training.head_lr) == (1e-5, 1e-3)


def test_a_number_where_text_is_wanted_is_not_guessed(write: Any) -> None:
    assert problems(write("data: {label: 010}")) == ["data.label: should be text (put it in quotes), found 10"]


def test_true_is_not_one(write: Any) -> None:
    (problem,) = problems(write("training: {epochs: true}"))
    assert problem == "training.epochs: should be a value, not true or false, found True"
    assert resolve(write("output: {overwrite: true}")).output.overwrite


def test_a_byte_order_mark_is_no_part_of_the_first_key(write: Any) -> None:
    assert resolve(write("\ufeffdata: {label: topic}")).data.label == "topic"


def test_all_problems_come_at_once(write: Any) -> None:
    found = problems(
        write("training: {lr: -1, sed: 3, schedule: linaer}\nmodle: {}\nlr: 1\n"),
        {"epocs": 3, "epochs": "many"},
        ("training.warmup", "training.batch_size=[", "batch_size=8", "training.max_length=long"),
    )
    assert found == [
        "unknown option 'epocs'; did you mean 'epochs'?",
        "--set training.warmup: expected key=value, for example --set training.lr=1e-4",
        "--set training.batch_size=[: line 1, column 2: not valid YAML "
        "(expected the node content, but found '<stream end>')",
        "unknown key 'batch_size'; did you mean 'training.batch_size'?",
        "training.epochs: should be a whole number, found 'many'",
        "training.lr: should be greater than 0, found -1",
        "training.schedule: should be 'linear', 'cosine' or 'constant', found 'linaer'",
        "training.max_length: should be a whole number or should be 'auto', found 'long'",
        "unknown key 'training.sed'; did you mean 'seed'?",
        "unknown key 'modle'; did you mean 'model'?",
        "unknown key 'lr'; did you mean 'training.lr'?",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {lr: 1}\ntraining: {}\n", "line 2, column 1: not valid YAML (found duplicate key"),
        ("data:\n  text: a\n  text: b\n", "line 3, column 3: not valid YAML (found duplicate key"),
        ("!!python/object/apply:os.getcwd []", "line 1, column 1: tags (!) are not read"),
        ("training: {lr: !!python/name:os.system }", "tags (!) are not read"),
        ("training: {lr: !unknown 1}", "tags (!) are not read"),
        ("training: {lr: *nothing}", "line 1, column 16: aliases (& and *) are not read"),
        ("[" * 50_000, "nested more than 32 levels"),
        ("{a: " * 10_000, "nested more than 32 levels"),
        ("a: !!omap [b: 1, b: 2]", "tags (!) are not read"),
        ("data: {<<: {text: a}}", "line 1, column 8: merges (<<) are not read"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1: not valid YAML"),
        ("training: {epochs: " + "9" * 5000 + "}", "not valid YAML"),
        ("data: {text: \0}", "not valid YAML"),
        ("- a\n", "expected sections (data, task,"),
        ("training: 5", "training: should be a section with keys, found 5"),
        ("training: {1: 2}", "training.1: should have names as keys"),
        ("training: {lr: .nan}", "should be a finite number"),
        ("training: {max_length: 0}", "should be greater than or equal to 4"),
        ("data: &d {text: *d}", "line 1, column 7: aliases (& and *) are not read"),
        (b"data: {text: \xff}", "not UTF-8 text (byte 13)"),
        ("#" * (MAX_CONFIG_BYTES + 1), "too large for a configuration"),
    ],
)
def test_a_bad_file_is_one_clear_line(write: Any, text: str | bytes, message: str) -> None:
    (problem,) = problems(write(text))
    assert message in problem
    assert len(problem) < 500 and "\n" not in problem


def test_aliases_cannot_blow_up_the_message(write: Any) -> None:
    doubled = "".join(f"  - &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9))
    (problem,) = problems(write(f"data:\n  text:\n  - &a [x]\n{doubled}"))
    assert len(problem) < 300


def test_a_set_on_a_section_that_is_none_is_refused(write: Any) -> None:
    assert problems(write("training: 5"), sets=("training.lr=1",)) == [
        "training: should be a section with keys, found 5"
    ]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.yaml", tmp_path):
        (problem,) = problems(path)
        assert str(path) in problem and "configuration" in problem


def test_a_set_to_nothing_brings_back_the_default_that_is_chosen_later(write: Any) -> None:
    assert resolve(write("training: {lr: 1}"), sets=("training.lr=",)).training.lr is None


def test_what_is_written_reads_back_equal(write: Any) -> None:
    config = resolve(
        options={"text": "no", "label": "010", "delimiter": "\t", "lr": 1e-5, "max_length": 64, "overwrite": True},
        sets=("data.group='null'", "data.id='#1: x'"),
    )
    text = dump(config)
    assert resolve(write(text)) == config
    assert len(text.splitlines()) == len(list(fields())) + len(Config.model_fields), "every value stands in the file"
    assert "Shape after the warm-up. [linear | cosine | constant]" in text


@given(text=st.text(), number=st.floats(min_value=0, exclude_min=True, allow_infinity=False))
def test_any_text_and_number_reads_back_equal(
    tmp_path_factory: pytest.TempPathFactory, text: str, number: float
) -> None:
    config = resolve(options={"label": text, "lr": number})
    file = tmp_path_factory.mktemp("config") / "config.yaml"
    file.write_text(dump(config), encoding="utf-8")
    assert resolve(file) == config


@given(st.text(alphabet="abtrue01.:-[]{}!&*#|>%@'\"\n \t", max_size=40))
def test_any_file_is_read_or_refused_in_order(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("config") / "config.yaml"
    file.write_text(text, encoding="utf-8")
    try:
        assert isinstance(resolve(file), Config)
    except UsageError as error:
        assert error.problems


def test_names_of_tasks_and_methods_are_those_of_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("adapters", "collections:deque", "tunesmith.methods")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == point.group else [])
    config = resolve(options={"method": "adapters", "task": "ner"})
    assert (config.method.name, config.task.name) == ("adapters", "ner")
    text = dump(config)
    assert "[auto | classification | multilabel | regression | ner | qa]" in text
    assert "[auto | full | features | freeze | gradual | lora | adapters]" in text
    assert problems(options={"method": "lroa", "task": "adapters"}) == [
        "task.name: should be 'auto', 'classification', 'multilabel', 'regression', 'ner' or 'qa', found 'adapters'",
        "method.name: should be 'auto', 'full', 'features', 'freeze', 'gradual', 'lora' or 'adapters', found 'lroa'",
    ]


def test_assignments_are_validated_too() -> None:
    config = Config()
    with pytest.raises(ValueError, match="greater than 0"):
        config.training.lr = -1.0


# The options of `tunesmith train` that the contract promises and the configuration defines.
OPTIONS = (
    "valid test text text_pair label group id format delimiter quoting sheet encoding task model revision method "
    "trainable_layers lora_r lora_alpha lora_dropout lora_targets pooling epochs batch_size lr head_lr "
    "layer_decay warmup schedule weight_decay label_smoothing class_weights max_length early_stopping metric seed "
    "precision out resume overwrite tracker threads local allow"
)


@pytest.mark.parametrize("name", OPTIONS.split())
def test_every_promised_option_sets_a_key(name: str) -> None:
    keys = dict(fields())
    assert flags()[name] in keys
    assert keys[flags()[name]].description


def test_every_setting_has_a_help_text_and_flags_are_unique() -> None:
    assert all(field.description for _, field in fields())
    assert len(set(flags().values())) == len(flags())
