"""The files in deploy/ name commands, options, modules and metrics that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tunesmith import cli
from tunesmith.commandline import options_of
from tunesmith.serve import watching

DEPLOY = Path(__file__).parents[2] / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
UNIT = (DEPLOY / "tunesmith.service").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    container = json.loads(re.findall(r"^CMD (.*)$", DOCKERFILE, flags=re.MULTILINE)[-1])
    service = re.findall(r"^ExecStart=\S+ (.*)$", UNIT, flags=re.MULTILINE)[0].split()
    return [container, service]


@pytest.mark.parametrize("words", commands())
def test_the_command_has_these_options(words: list[str]) -> None:
    assert cli.app and words[0] == "serve" and {word for word in words if word.startswith("--")} <= options_of("serve")


def test_the_image_gets_what_it_copies_and_nothing_else() -> None:
    copied = re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, flags=re.MULTILINE)
    allowed = re.findall(r"^!(.*)$", (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(" ".join(copied).split()) == sorted(allowed)
    assert all((DEPLOY.parent / name).exists() for name in allowed) and "[train" not in DOCKERFILE


def test_the_rules_watch_metrics_that_there_are() -> None:
    rules = YAML(typ="safe").load((DEPLOY / "alerts.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
    asked = {name for rule in rules for name in re.findall(r"tunesmith_\w+", rule["expr"])}
    source = Path(watching.__file__).read_text(encoding="utf-8")
    known = {f"{name}{end}" for name in re.findall(r'"(tunesmith_\w+)"', source) for end in ("", "_total", "_bucket")}
    assert asked and asked <= known
