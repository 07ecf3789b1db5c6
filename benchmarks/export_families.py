"""Which architectures leave as artefacts: every family of the tests with every head, and what stands in the way.

    python benchmarks/export_families.py [--families a,b] [--docs]

Models have two layers and random weights. Of each the artefact's outputs on texts of random tokens are compared with
those of the model, in float32 and in int8. The result goes to ``results/export_families.json``, and with ``--docs`` as
a table into ``docs/export.md``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _results import write_result

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.tiny import FAMILIES, UNUSUAL, save_model  # noqa: E402
from tunesmith.artefact.folder import Artefact, Source, listed  # noqa: E402
from tunesmith.artefact.tokens import save_tokenizer  # noqa: E402
from tunesmith.data.layout import Layout  # noqa: E402
from tunesmith.data.shapes import ANSWERS, ONE_LABEL, SPANS  # noqa: E402
from tunesmith.errors import TunesmithError  # noqa: E402
from tunesmith.exporting import precisions  # noqa: E402
from tunesmith.exporting.graph import draw  # noqa: E402
from tunesmith.exporting.subject import invented  # noqa: E402
from tunesmith.models.heads import quiet_library  # noqa: E402
from tunesmith.models.loading import load_classifier, load_tokenizer, token_limit  # noqa: E402
from tunesmith.models.source import Source as ModelSource  # noqa: E402
from tunesmith.predictor import Predictor  # noqa: E402
from tunesmith.registry import lookup  # noqa: E402
from tunesmith.tasks import TASKS  # noqa: E402
from tunesmith.tasks.base import LabelSpace  # noqa: E402
from tunesmith.tasks.encoding import Encoder, Truncation  # noqa: E402
from tunesmith.training.backend import TorchModel  # noqa: E402

KINDS = {"classification": "sequence", "classification, mean": "mean", "entities": "token", "questions": "question"}
TASK_OF = {"sequence": "classification", "mean": "classification", "token": "ner", "question": "qa"}
LAYOUTS = {
    "classification": Layout(ONE_LABEL, "text", None, ("label",)),
    "ner": Layout(SPANS, "text", None, ("spans",), "spans"),
    "qa": Layout(ANSWERS, "question", "context", ("answers",), "answers"),
}
NAMES = {"classification": ("a", "b", "c"), "ner": ("O", "B-x", "I-x"), "qa": ("start", "end")}
BEGIN, END = "<!-- families: made by benchmarks/export_families.py --docs -->\n", "<!-- end of families -->"
MASKED = 1e30


def model_of(folder: Path, head: str) -> tuple[Any, Any, int]:
    """A model with a head of random weights, its tokenizer, and how many tokens it reads."""
    source = ModelSource.of_folder(str(folder), folder)
    tokenizer, pooled = load_tokenizer(source), head == "mean"
    kind = "sequence" if pooled else head
    with quiet_library():
        model: Any = load_classifier(
            source, tokenizer, NAMES[TASK_OF[head]], None, "mean" if pooled else "head", 0, kind
        )
    return model.eval(), tokenizer, token_limit(model.config, tokenizer)


def tried(folder: Path, head: str, work: Path) -> dict[str, Any]:
    """How far an artefact's outputs are from the model's, by precision, or why there is none."""
    name = TASK_OF[head]
    task = lookup(TASKS, "tasks", name)()
    begin = time.perf_counter()
    try:
        model, tokenizer, limit = model_of(folder, head)
    except (ValueError, KeyError, TunesmithError) as error:
        return {"refused": f"no such head ({said(error)})"}
    space, truncation = LabelSpace(NAMES[name]), Truncation(min(limit, 64))
    predictor = Predictor(TorchModel(model, tokenizer), task, space, truncation, LAYOUTS[name])
    encoder = Encoder(tokenizer, truncation, work.with_suffix(".arrow"))
    try:
        encoded = task.encode(invented(predictor), space, encoder, False)
        wanted = predictor.backend.logits(encoded, task)
    except (TunesmithError, ValueError, TypeError, RuntimeError) as error:
        return {"refused": f"answers no texts at all ({said(error)})"}
    found: dict[str, Any] = {}
    try:
        facts = save_tokenizer(tokenizer, work)
        drawn = draw(model, task, tokenizer)
        for precision in ("float32", "int8"):  # the second changes it
            precisions.write(drawn.program, precision, work)
            predictor.facts.save(work)
            Artefact(
                precision=precision,  # type: ignore[arg-type]
                opset=drawn.opset,
                inputs=drawn.inputs,
                limit=limit,
                tokenizer=facts,
                source=Source(task=name, name=folder.name, versions={}),
                files=listed(work),
            ).save(work)
            logits = Predictor.load(work).backend.logits(encoded, task)
            distance = np.abs(logits - wanted)[np.abs(wanted) < MASKED]
            found[precision] = float(distance.max() / wanted[np.abs(wanted) < MASKED].std())
    except TunesmithError as error:
        return {"refused": said(error)}
    return {**found, "seconds": round(time.perf_counter() - begin, 1)}


def said(error: Exception) -> str:
    """An error without the places that it names."""
    text = " ".join(str(error).split())
    text = re.sub(r"\S*/tmp/\S*?(\w+)(?=[:\s])", r"\1", text)
    return re.sub(r"Status Message: .*", "sizes that are fixed", text.replace("<class ", "").replace("'>", "'"))[:160]


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    lines = [f"| family | {' | '.join(KINDS)} |", f"|---|{'---|' * len(KINDS)}"]
    reasons: dict[str, str] = {}
    for family, found in results.items():
        cells = []
        for kind in KINDS:
            one = found[kind]
            if "refused" in one:
                mark = reasons.setdefault(one["refused"], str(len(reasons) + 1))
                cells.append(f"no ({mark})")
            else:
                cells.append(f"{one['float32']:.0e} · {one['int8']:.0e}")
        lines.append(f"| {family} | {' | '.join(cells)} |")
    notes = [f"({mark}) {reason.replace('|', '/').replace('<', '‹')}" for reason, mark in reasons.items()]
    return "\n".join(lines) + "\n\n" + "\n".join(f"{note}  " for note in notes) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", default=",".join([*FAMILIES, *UNUSUAL]))
    parser.add_argument("--docs", action="store_true", help="only write the table from the last result")
    asked = parser.parse_args()
    kept = Path(__file__).parent / "results" / "export_families.json"
    if not asked.docs:
        results = json.loads(kept.read_text())["families"] if kept.exists() else {}
        for family in asked.families.split(","):
            with tempfile.TemporaryDirectory() as folder:
                saved = save_model(family, Path(folder) / family)
                results[family] = {}
                for kind, head in KINDS.items():
                    work = Path(folder) / head
                    work.mkdir()
                    results[family][kind] = tried(saved, head, work)
                    sys.stderr.write(f"{family}, {kind}: {results[family][kind]}\n")
            write_result("export_families", {"families": results})
    page = ROOT / "docs" / "export.md"
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(before + BEGIN + table(json.loads(kept.read_text())["families"]) + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
