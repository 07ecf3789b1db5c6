"""The model card of a run: a README.md with the metadata that the Hugging Face Hub reads."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from huggingface_hub import EvalResult, ModelCardData

from tunesmith.data.parts import set_name
from tunesmith.report import summary
from tunesmith.run.record import RunRecord
from tunesmith.text import markdown

if TYPE_CHECKING:
    from tunesmith.tasks.base import LabelSpace, Task
    from tunesmith.tasks.usage import Saved

# The Hub's names of metrics, where they differ from ours.
HUB_METRICS = {
    "macro_f1": "f1",
    "micro_f1": "f1",
    "weighted_f1": "f1",
    "span_f1": "f1",
    "answer_f1": "f1",
    "mcc": "matthews_correlation",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
}
SHOWN_LABELS = 100


def card(record: RunRecord, task: Task, saved: Saved, space: LabelSpace) -> str:
    """The card of a finished run: what the model does, how well, made from what, and how to use it.

    Of the data it names files by their last part and quotes labels, never texts. It stands in the folder of the run and
    in that of the model, which differ in how it names files.
    """
    record = record.model_copy(
        update={"model": record.model.model_copy(update={"name": _public_name(record.model.name)})}
    )
    content = summary.content(record, task) | {
        "metadata": _metadata(record, task, saved).to_yaml(line_break="\n"),
        "shown_labels": SHOWN_LABELS,
        "files": [(PurePath(file.path).name, file.rows, file.sha256) for file in record.data.files],
        "limits": _limits(record, task),
        "settings": [
            (f"{section}.{key}", summary.setting(value))
            for section, part in (("method", record.config.method), ("training", record.config.training))
            for key, value in part
            if value is not None
        ],
        "example": task.example(saved),
        "use": task.use(saved, space),
    }
    return summary.template("card.md.j2").render(content)


def adapter_card(task: Task, saved: Saved) -> str:
    """The card of an adapter, which lies in a folder of its own within that of the model."""
    return summary.template("adapter.md.j2").render(task=task, saved=saved, auto_class=saved.auto_class(task.head))


def _metadata(record: RunRecord, task: Task, saved: Saved) -> ModelCardData:
    """The YAML head. Licence and language are not in it, since nobody told them; `tunesmith.push` takes them."""
    source, scored = record.data.files[0].path, record.metrics["test"]
    dataset, of_hub = set_name(source), source.removeprefix("hub:").partition(":")[0]
    scores = {metric: scored[metric] for metric in record.described if metric in scored}
    results = [
        EvalResult(
            task_type=task.pipeline_tag,
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_split="test",
            metric_type=HUB_METRICS.get(metric, metric),
            metric_name=record.described[metric].title,
            metric_value=score.value,
        )
        for metric, score in scores.items()
    ]
    return ModelCardData(
        model_name=summary.name_of(record),
        base_model=saved.base,
        datasets=[of_hub] if source.startswith("hub:") else None,
        pipeline_tag=task.pipeline_tag,
        library_name="sentence-transformers" if saved.pooled else "transformers",
        metrics=list(dict.fromkeys(HUB_METRICS.get(metric, metric) for metric in scores)),
        tags=["tunesmith"],
        eval_results=results,
    )


def _public_name(name: str) -> str:
    """A model's name for others: of a folder on the author's machine only the last part."""
    is_folder = name.count("/") > 1 or name.startswith((".", "/", "~")) or "\\" in name or Path(name).exists()
    return PurePath(name.replace("\\", "/")).name if is_folder else name


def _limits(record: RunRecord, task: Task) -> list[str]:
    """What a user of the model should know before relying on it."""
    limits = [
        "The scores hold for texts like those of the test split; on other sources, languages or times they may be "
        "lower. Score the model on your own labelled texts before use."
    ]
    limits += task.limits
    if ece := record.metrics["test"].get("ece"):
        limits.append(f"Its confidence is off by {100 * ece.value:.1f} points on average (expected calibration error).")
    return limits + [markdown(message, 300) for message in dict.fromkeys(record.warnings)]
