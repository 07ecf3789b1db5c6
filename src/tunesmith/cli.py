"""The commands: one short function each, which calls the function of the same name and gives what is printed."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

import tunesmith
from tunesmith import signals, startup
from tunesmith.commandline import Shown, app, command, main, put, spelled
from tunesmith.config.loading import dump, resolve
from tunesmith.config.options import ReadOptions, UseOptions
from tunesmith.config.schema import AdaptConfig, Config
from tunesmith.errors import UsageError
from tunesmith.progress import Progress
from tunesmith.text import json_text

__all__ = ["app", "main"]

READING = tuple(ReadOptions.__annotations__)
USING = tuple(UseOptions.__annotations__)

Data = Annotated[str, typer.Argument(help="File or folder of examples.", metavar="DATA")]
Again = Annotated[str | None, typer.Argument(help="File or folder of examples; --resume needs none.", metavar="DATA")]
TextsAgain = Annotated[
    str | None, typer.Argument(help="File or folder of texts; --resume needs none.", metavar="TEXTS")
]
Usable = Annotated[
    str, typer.Argument(help="Run folder, the model folder of one, or an artefact of export.", metavar="RUN")
]
Scorable = Annotated[str, typer.Argument(help="Run folder, or an artefact of export.", metavar="RUN")]
Exportable = Annotated[
    str,
    typer.Argument(help="Run folder, the model folder of one, or a folder that transformers saved.", metavar="RUN"),
]


@command(whole=True)
def check(data: Data, config: Config, quiet: bool) -> Shown:
    """Read a file of examples, run every data check and print what was found."""
    from tunesmith import console

    findings = tunesmith.check(data, config)
    lines = [console.read_text(findings.read), *(spelled(console.finding_text(finding)) for finding in findings)]
    failed = any(finding.level == "failure" for finding in findings)
    shown = [
        {key: spelled(value) if key in ("message", "advice") else value for key, value in finding.to_dict().items()}
        for finding in findings
    ]
    value = {"read": findings.read.to_dict(), "findings": shown, "failed": failed}
    return value, "" if quiet else "\n".join(lines)


@command(whole=True)
def train(config: Config, progress: Progress, data: Again = None) -> Shown:
    """Check, split, train, evaluate, report; print the score and the run folder."""
    return _of_run(tunesmith.train(data, config, progress))


def _of_run(run: tunesmith.Run) -> Shown:
    from tunesmith import console

    where = f"run: {run}   report: {run.folder / 'report.html'}"
    return {"run": str(run), **run.record}, f"{spelled(console.summary(run.content))}\n{where}"


@command(AdaptConfig, whole=True)
def adapt(config: AdaptConfig, progress: Progress, data: TextsAgain = None) -> Shown:
    """Continue masked-language-model training on unlabelled texts; the result is a starting point for train."""
    from tunesmith import console

    adapted = tunesmith.adapt(data, config, progress)
    return {"folder": str(adapted), **adapted.record}, console.adapted_text(adapted)


@command(names=USING)
def evaluate(
    run: Scorable,
    data: Data,
    progress: Progress,
    against: Annotated[
        str | None, typer.Option(help="Second run or artefact, for a paired test.", metavar="RUN2")
    ] = None,
    **reading: Any,
) -> Shown:
    """Score a run on new labelled data, with intervals; what no option says is as in training."""
    from tunesmith import console

    startup.only_answers()
    result = tunesmith.evaluate(run, data, against, progress, **reading)
    return result.to_dict(), console.evaluation_text(result, run, data, against)


@command(names=USING)
def predict(
    run: Usable,
    json: bool,
    quiet: bool,
    progress: Progress,
    file: Annotated[
        str,
        typer.Argument(
            help="File of texts, or folder of text files; - for one text (or JSON object) a line.", metavar="FILE"
        ),
    ] = "-",
    out: Annotated[
        str | None,
        typer.Option(
            help="File for the input's columns and the predictions: .csv, .tsv, .jsonl, .parquet, .xlsx or "
            ".labelstudio.json.",
            metavar="FILE",
        ),
    ] = None,
    only: Annotated[bool, typer.Option("--only", help="With --out: identifiers and predictions alone.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="With --out: replace a file that is there.")] = False,
    top_k: Annotated[int | None, typer.Option(help="So many of the best labels or answers, with scores.")] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="From 0 to 1: what scores less is left out; a model that is less sure gives no label."),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="auto, float32 (as plain transformers), bfloat16 or float16 (faster, rounded).")
    ] = "float32",
    **reading: Any,
) -> Shown | None:
    """Predictions as JSON lines (with --json as one object, with --out as a file), in the order of the input."""
    startup.only_answers()
    reading |= {"top_k": top_k, "threshold": threshold}
    if out is not None:
        written = tunesmith.write_predictions(
            run, file, out, precision, progress, only=only, overwrite=overwrite, **reading
        )
        return written.to_dict(), "" if quiet else str(written)
    if only or overwrite:
        raise UsageError(f"`{'only' if only else 'overwrite'}`: needs `out`, the file to be written")
    from tunesmith.tasks.predictions import rounded

    signals.current().saved = "what is written ends there; the same command begins anew"
    predictions = map(rounded, tunesmith.predict(run, file, precision, progress, **reading))
    if json:
        return {"predictions": list(predictions)}, ""
    for prediction in predictions:
        put(json_text(prediction))
    return None


@command(names=["allow"])
def serve(
    run: Usable,
    json: bool,
    progress: Progress,
    allow: str | None,
    host: Annotated[str, typer.Option(help="Interface; others than this machine's own need --keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for one that is free; the address is printed.")] = 8000,
    keys: Annotated[
        str | None, typer.Option(help="File with a key a line; who asks must have one.", metavar="FILE")
    ] = None,
    no_keys: Annotated[bool, typer.Option("--no-keys", help="Everybody may ask, from other machines, too.")] = False,
    corrections: Annotated[
        str | None, typer.Option(help="File to which marked answers are added, for train.", metavar="FILE")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes, each with the model, that answer together.")] = 1,
    precision: Annotated[
        str, typer.Option(help="auto, float32 (as plain transformers), bfloat16 or float16 (faster, rounded).")
    ] = "float32",
) -> None:
    """Answer HTTP requests with a model until a signal comes; prints the address once it answers."""
    from tunesmith.serve import serve as run_server

    startup.only_answers()

    def ready(address: str) -> None:
        put(json_text({"address": address}) if json else address, flush=True)

    run_server(
        run,
        host,
        port,
        progress,
        keys=keys,
        no_keys=no_keys,
        corrections=corrections,
        precision=precision,
        allow=allow,
        workers=workers,
        ready=ready,
    )


@command(names=USING)
def export(
    run: Exportable,
    to: Annotated[str, typer.Option(help="Folder that is made.", metavar="DIR")],
    progress: Progress,
    precision: Annotated[
        str, typer.Option(help="float32, float16 (weights of half the size) or int8 (smaller, faster, rounded).")
    ] = "float32",
    max_loss: Annotated[
        float, typer.Option(help="What may be lost, by the worse end of the difference's interval: 0.01 is one point.")
    ] = 0.01,
    data: Annotated[
        str | None,
        typer.Option(help="Labelled examples to measure on, not the validation rows.", metavar="FILE"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an artefact that is there.")] = False,
    **reading: Any,
) -> Shown:
    """Make a light artefact that answers without torch, measured beside its run before it is accepted."""
    from tunesmith import console

    made = tunesmith.export(run, to, precision, progress, data=data, max_loss=max_loss, overwrite=overwrite, **reading)
    return made.to_dict(), console.exported_text(made)


@command(names=["task", *READING])
def models(
    domain: Annotated[str | None, typer.Option(help="Only models for texts of this domain.")] = None,
    language: Annotated[str | None, typer.Option(help="Only models that read this language (de, fr, …).")] = None,
    data: Annotated[str | None, typer.Option(help="Measure tokenizers on these texts and rank by fit.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Measure this folder, too.", metavar="FOLDER")] = None,
    **reading: Any,
) -> Shown:
    """Starting points by domain and language; with --data, how well the tokenizers on this machine fit it."""
    from tunesmith import console

    found = tunesmith.find_models(domain, language, data, model or (), **reading)
    return {"models": [one.to_dict() for one in found]}, console.models_text(found)


@command(names=["local"])
def push(
    run: Usable,
    name: Annotated[str, typer.Argument(help="Of the repository on the Hub.", metavar="OWNER/NAME")],
    progress: Progress,
    public: Annotated[bool, typer.Option("--public", help="All may see it; by default nobody else does.")] = False,
    license: Annotated[str | None, typer.Option(help="For the card: apache-2.0, mit, other, …", metavar="ID")] = None,
    language: Annotated[str | None, typer.Option(help="For the card: en, or en,de.", metavar="CODES")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be sent.")] = False,
    local: bool | None = None,
) -> Shown:
    """Send a trained model, or an artefact, with its card to the Hugging Face Hub."""
    pushed = tunesmith.push(
        run,
        name,
        public=public,
        license=license,
        language=language,
        local=bool(local),
        dry_run=dry_run,
        progress=progress,
    )
    return pushed.to_dict(), str(pushed)


@command()
def runs(
    quiet: bool,
    folder: Annotated[str, typer.Argument(help="Folder that holds runs, or one of them.", metavar="FOLDER")] = "runs",
) -> Shown:
    """The runs in a folder, the latest first: score, method, data, size, state."""
    from tunesmith import console

    found = tunesmith.runs(folder)
    return {"runs": [run.to_dict() for run in found]}, "" if quiet else console.runs_text(found)


@command(names=["task", "method"])
def init(**options: Any) -> Shown:
    """Print a complete configuration file, every default written out."""
    config = resolve(options=options)
    return config.model_dump(mode="json"), dump(config).removesuffix("\n")


@command()
def demo(
    quiet: bool,
    progress: Progress,
    out: Annotated[str, typer.Option(help="Run folder; an earlier demo there is replaced.")] = "runs/demo",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew, not from a stopped demo.")] = False,
) -> Shown:
    """The whole path on the packaged model and corpus, without network, in about a minute."""
    from tunesmith.demo import demo as run_demo

    run, advice = run_demo(out, progress, overwrite)
    value, text = _of_run(run)
    return value, text if quiet else f"{text}\n{advice}"


@command()
def cache(
    quiet: bool,
    clear: Annotated[bool, typer.Option("--clear", help="Remove all of it, and nothing else in the folder.")] = False,
) -> Shown:
    """Show what frozen layers computed and later runs will read again, or remove it."""
    from rich.filesize import decimal

    from tunesmith import console
    from tunesmith.engine import cache as states
    from tunesmith.text import counted

    folder = states.cache_folder()
    if problem := states.objection(folder):
        raise UsageError(problem)
    if clear:
        cleared = states.clear(folder)
        if cleared["left"] and not quiet:
            print(f"left alone, not of the cache: {', '.join(map(repr, cleared['left']))}", file=sys.stderr)
        text = f"{folder}: removed {counted(cleared['removed'], 'store')}, {decimal(cleared['bytes'])}"
        return {"folder": str(folder), **cleared}, "" if quiet else text
    stores = [store.to_dict() for store in states.stores(folder)]
    total = sum(store["bytes"] for store in stores)
    table = f"{console.stores_text(stores)}\n" if stores else ""
    return {"folder": str(folder), "stores": stores, "bytes": total}, f"{table}{folder}: {decimal(total)}"
