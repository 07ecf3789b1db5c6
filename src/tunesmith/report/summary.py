"""What the page and the card share: the scores of a finished run in words and rows, values as text, the templates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from tunesmith.evaluation.labels import label_titles, weakest_first
from tunesmith.run.record import RunRecord, Scores
from tunesmith.text import counted, duration, markdown, plural, visible

if TYPE_CHECKING:
    from tunesmith.tasks.base import Task


OF_ONE = "Of the one {split} example the {title} is {value}, which says nothing of others."


@dataclass(frozen=True)
class Column:
    """A column of the table of scores: the model on a split, or what stands beside it.

    Attributes:
        verdict: what the model is beside it, in the main metric.
    """

    name: str
    scores: Scores
    seconds: float | None = None
    verdict: str | None = None


def content(record: RunRecord, task: Task) -> dict[str, Any]:
    """What both templates show: the main score in words, the table of scores (a row a metric), and the facts."""
    name, described, tested = record.main_metric, record.described, record.metrics["test"]
    metric, score, by_label = described[name], tested[name], record.by_label.get("test", {})
    others = [
        Column(
            other.title, other.metrics, other.seconds, other.difference.verdict(metric) if other.difference else None
        )
        for other in record.baselines
    ]
    columns = [Column("this model, test", tested), Column("this model, validation", record.metrics["valid"]), *others]
    value = metric.value_text(score.value)
    shown = [name, *(other for other in described if other in tested and other != name)]
    return {
        "name": name_of(record),
        "record": record,
        "task": task,
        "metric": metric,
        "score": score,
        "metric_name": name,
        "sentence": (metric.sentence if score.n > 1 else OF_ONE).format(
            n=f"{score.n:,}", split="test", title=metric.title, value=value
        ),
        "comparison": comparison(record),
        "columns": columns,
        "rows": [(described[n], [column.scores.get(n) for column in columns]) for n in shown],
        "by_label": weakest_first(by_label, name),
        "label_metrics": label_titles(by_label, described),
        "facts": facts(record, task),
    }


def comparison(record: RunRecord) -> str | None:
    """How the model stands to the best of those beside it, by the paired test."""
    name = record.main_metric
    metric = record.described[name]
    sign = 1 if metric.higher_is_better else -1
    rivals = [(other, other.metrics[name], other.difference) for other in record.baselines if other.difference]
    if not rivals:
        return None
    rival, score, difference = max(rivals, key=lambda one: sign * one[1].value)
    reached = f"Beside it, {rival.title} reaches {metric.value_text(score.value)}"
    return f"{reached}: the model is {difference.verdict(metric)}."


def name_of(record: RunRecord) -> str:
    """``MiniLM on tickets.csv``: the last parts of the model's name and of the data's path."""
    return f"{PurePath(record.model.name).name} on {PurePath(record.data.files[0].path).name}"


def facts(record: RunRecord, task: Task) -> list[tuple[str, str]]:
    """What was trained, as (name, value) pairs."""
    model, data, timing = record.model, record.data, record.timing
    assert timing and model.parameters is not None and model.trainable is not None
    known = f", {plural(len(data.labels), task.kinds_noun)}" if data.labels else ""
    found = [
        ("Task", record.titles.task + known),
        ("Method", record.titles.method),
        ("Model", model.name + (f" @ {model.revision}" if model.revision else "")),
        ("Rows", " · ".join(f"{split.rows:,} {split.name}" for split in data.splits)),
    ]
    if added := data.augmentation:
        found.append(("Augmentation", f"{added.rows:,} more training rows by {', '.join(added.names)}"))
    return [
        *found,
        ("Parameters", f"{model.parameters:,}"),
        ("Trained", f"{model.trainable:,} ({100 * model.trainable / model.parameters:.3g} %)"),
        ("Time", duration(timing.seconds)),
        ("Speed", f"{timing.tokens_per_second:,.0f} tokens a second"),
        ("Seed", str(record.seed)),
    ]


def plain(value: Any) -> str:
    """A value or a mapping of values."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{visible(key)} {plain(item)}" for key, item in value.items())
    return visible(value)


def piece(text: str) -> str:
    """A part of a text, `visible`, with the spaces at its ends that part it from others."""
    spaces = [" " if end.isspace() else "" for end in (text[:1], text[-1:])]
    return spaces[0] + visible(text) + spaces[1] if text.strip() else " "


def sentence(words: str) -> str:
    """With a capital and a full stop."""
    return f"{words[:1].upper()}{words[1:]}."


def setting(value: Any) -> str:
    """A value of the configuration, integers (seeds, sizes) as they are typed."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else plain(value)


def template(name: str) -> Template:
    """A template of this folder; undefined names are refused, and in HTML every value is escaped.

    In Markdown every untrusted value goes through the filter `md` instead.
    """
    found = Environment(
        loader=PackageLoader("tunesmith.report"),
        autoescape=name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters |= {"visible": visible, "md": markdown, "plain": plain, "setting": setting, "duration": duration}
    found.filters |= {"counted": counted, "nouns": plural, "piece": piece, "sentence": sentence}
    return found.get_template(name)
