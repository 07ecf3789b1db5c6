"""What is printed or written for people and programs: nothing of the data is obeyed, breaks a line or hides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunesmith.cli import main
from tunesmith.disk import read_json_lines, write_json_lines
from tunesmith.text import harmless, json_text

ODD = "\x1b[2J \x9b31m \u202e \u2028 \x85 \u200b \x7f \U000e0041 \ud800"


def test_harmless_text_shows_what_a_terminal_would_obey() -> None:
    shown = harmless(f"one\ttwo\n{ODD}")
    assert shown.startswith("one\ttwo\n␛[2J ⟨U+009B⟩31m ⟨U+202E⟩ ⟨U+2028⟩ ⟨U+0085⟩ ⟨U+200B⟩ ␡ ⟨U+E0041⟩ ⟨U+D800⟩")
    assert harmless(shown) == shown
    assert harmless("नर\u200dक 👩\u200d👧 é\u0301 “„") == "नर\u200dक 👩\u200d👧 é\u0301 “„"


def test_json_is_one_line_for_every_reader_and_the_same_value() -> None:
    text = json_text({"text": ODD})
    assert len(text.splitlines()) == 1 and harmless(text) == text
    assert json.loads(text) == {"text": ODD.replace("\ud800", "\ufffd")}


def test_json_lines_are_lines(tmp_path: Path) -> None:
    rows = [{"text": "one\u2028two\x85three"}, {"text": "é"}]
    write_json_lines(tmp_path / "a.jsonl", rows)
    assert len((tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    assert read_json_lines(tmp_path / "a.jsonl") == rows


@pytest.mark.parametrize("extra", [[], ["--json"]])
def test_no_command_shows_what_a_terminal_would_obey(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], extra: list[str]
) -> None:
    path = tmp_path / "a\x1b[2J\u202eb.csv"
    path.write_text("text,label\n" + "a text,c\x9b31m\nsome words,d\u2028e\n" * 9, encoding="utf-8")
    for arguments in (["check", str(path)], ["check", f"{path}x"], ["check", str(path), "--set", "data.text=\x1b"]):
        monkeypatch.setattr("sys.argv", ["tunesmith", *arguments, *extra])
        with pytest.raises(SystemExit):
            main()
        said = capsys.readouterr()
        assert said.out + said.err and harmless(said.out + said.err) == said.out + said.err
