"""The command line: one short function per command, which calls the function of the same name and prints.

Results go to standard output (one JSON object with ``--json``), progress and messages to standard error.
"""

from __future__ import annotations

import ctypes
import inspect
import json as jsons
import os
import platform
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

import tunesmith
from tunesmith.config.loading import choices, dump, fields, flag, flags, resolve
from tunesmith.config.options import ReadOptions
from tunesmith.config.schema import AdaptConfig, Config, Section
from tunesmith.errors import DataError, TunesmithError, UsageError, is_disk_full
from tunesmith.progress import Progress
from tunesmith.registry import did_you_mean
from tunesmith.spelling import spell

app = typer.Typer(
    name="tunesmith",
    help="Fine-tune pretrained text models on your own data.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

OUT_OF_MEMORY = ("out of memory", "can't allocate memory")  # torch raises plain RuntimeErrors on the CPU
READING = tuple(ReadOptions.__annotations__)

Data = Annotated[str, typer.Argument(help="File or folder of examples.", metavar="DATA")]
Again = Annotated[str | None, typer.Argument(help="The same; --resume needs none.", metavar="DATA")]
TextsAgain = Annotated[
    str | None, typer.Argument(help="File or folder of texts; --resume needs none.", metavar="TEXTS")
]
Shown = tuple[Mapping[str, Any], str]
RunFolder = Annotated[str, typer.Argument(help="Run folder, or (predict) the model folder of one.", metavar="RUN")]


def main() -> None:
    """Run a command; errors become one line each on standard error and an exit code."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # before it is imported: no advice
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    keep_freed_memory()
    try:
        code = app(standalone_mode=False) or 0
        sys.stdout.flush()  # what cannot be written is noticed here
        sys.exit(code)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        advice = "; the same command with --resume goes on" if "--resume" in options_of(_command_name()) else ""
        exit_code, messages = 130, [f"interrupted{advice}"]
    except (BrokenPipeError, SystemExit) as stop:  # the reader of our output went away, as `head` does
        if not isinstance(stop.__context__ or stop, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        if isinstance(error, TunesmithError):
            exit_code, messages = error.exit_code, str(error).splitlines()
        elif hasattr(error, "format_message"):  # click's own errors: unknown flag, missing argument
            exit_code, messages = 2, [error.format_message()]
            if not messages[0]:  # no argument at all: its help was shown
                sys.exit(exit_code)
            if "No such command" in messages[0]:
                messages = [f"no command {_command_name()!r}; {did_you_mean(_command_name(), list(commands()))}"]
        elif isinstance(error, MemoryError) or any(sign in str(error) for sign in OUT_OF_MEMORY):
            trains = "--batch-size" in options_of(_command_name())
            advice = "lower training.batch_size or training.max_length" if trains else "give it less at a time"
            exit_code, messages = 5, [f"out of memory; {advice}"]
        elif is_disk_full(error):
            where = getattr(error, "filename", None) or "standard output or the folder for temporary files"
            exit_code, messages = 5, [f"{where}: no space left on the disk; free some, or name another one"]
        else:
            what = f"{type(error).__name__}: {error}"
            exit_code, messages = 1, [f"internal error: {what}; run again with --debug and report it"]
    messages = [_spelled(message) for message in messages]
    for message in messages:
        print(f"tunesmith: {message}", file=sys.stderr)
    if "--json" in sys.argv:
        print(jsons.dumps({"error": messages, "exit_code": exit_code}, ensure_ascii=False))
    sys.exit(exit_code)


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed, instead of giving it back to the system and asking again at the next step.

    A training step frees and allocates the same activations and gradients each time; pages that come back from the
    system are cleared on first touch. For a process of our own, not for a host's.

    Returns:
        Whether the C library took it; other libraries than glibc are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library, trim_threshold, mmap_threshold = ctypes.CDLL(None), -1, -3  # of malloc.h
    return all(library.mallopt(setting, 1 << 30) == 1 for setting in (trim_threshold, mmap_threshold))


def _command_name() -> str:
    return sys.argv[1] if len(sys.argv) > 1 else ""


def _spelled(message: str) -> str:
    """A message with its settings as the running command takes them."""
    return spell(message, options_of(_command_name()), sys.argv[2:])


@lru_cache
def commands() -> Mapping[str, Any]:
    """The commands by name."""
    found: Mapping[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return found


@lru_cache
def options_of(command: str) -> frozenset[str]:
    """The options of a command; none if there is no such command."""
    found = commands().get(command)
    return frozenset(option for parameter in found.params for option in parameter.opts) if found else frozenset()


def _show_version(asked: bool) -> None:
    if asked:
        print(f"tunesmith {tunesmith.__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", "-V", is_eager=True, callback=_show_version, help="Show the version.")
    ] = False,
) -> None:
    """What stands before the name of a command."""


def command(kind: type[Section] = Config, names: Iterable[str] = (), whole: bool = False) -> Callable[..., Any]:
    """Make a function a command: its parameters, ``--json``, ``--quiet``, ``--debug``, and an option for each setting.

    What it returns, the value for ``--json`` and the text, is printed; None where it did so itself. It may ask for
    ``json``, ``quiet`` and ``progress``.

    Args:
        kind: where the settings are defined.
        names: of settings that have a flag; they are given to the function as keywords.
        whole: all of them instead, with ``--config`` and ``--set``; the function is given the ``config``, resolved.
    """
    settings, keys = dict(fields(kind)), flags(kind)
    added = [
        _option("json", bool, "--json", help="Print one JSON object on standard output and nothing else there."),
        _option("quiet", bool, "--quiet", help="No progress and no messages."),
        _option("debug", bool, "--debug", help="Show the traceback of an error."),
    ]
    if whole:
        added.append(_option("config", str | None, help="Configuration file; see `tunesmith init`."))
        added.append(_option("set", list[str] | None, help="Any setting: key=value.", metavar="KEY=VALUE"))
    for name in keys if whole else names:
        field, panel = settings[keys[name]], keys[name].split(".")[0] if whole else None
        kinds = _flag_type(field.annotation)
        words = {"metavar": "|".join(known)} if (known := choices(field)) else {}
        shown = "" if field.default is None or kinds == bool | None else f" Default: {field.default}."
        about = {"help": f"{field.description}{shown}", "rich_help_panel": panel, **words}
        added.append(_option(name, kinds, str(flag(field)), **about))

    def register(function: Callable[..., Shown | None]) -> Callable[..., Shown | None]:
        asked = inspect.signature(function, eval_str=True).parameters

        def run(json: bool, quiet: bool, debug: bool, **given: Any) -> None:
            if whole:
                file, sets = given.pop("config"), given.pop("set") or ()
                given["config"] = resolve(file, {name: given.pop(name) for name in keys}, sets, kind)
            offered = {"json": json, "quiet": quiet, "progress": Progress(quiet, _spelled)}
            given |= {name: value for name, value in offered.items() if name in asked}
            value, text = function(**given) or (None, "")
            if shown := jsons.dumps(value, ensure_ascii=False) if json and value is not None else text:
                print(shown)
            if value is not None and value.get("failed"):
                raise typer.Exit(DataError.exit_code)

        later = {"progress", *(parameter.name for parameter in added)}
        own = [one for one in asked.values() if one.kind is not one.VAR_KEYWORD and one.name not in later]
        parameters = [*own, *added]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        run.__doc__ = function.__doc__
        app.command(function.__name__)(run)
        return function

    return register


def _option(name: str, kind: Any, *flags: str, **facts: Any) -> inspect.Parameter:
    annotation, default = Annotated[kind, typer.Option(*flags, **facts)], False if kind is bool else None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _flag_type(annotation: Any) -> Any:
    """What the command line parses; ranges and choices are checked by the settings themselves, all at once."""
    if annotation is bool:
        return bool | None
    parts = [annotation, *get_args(annotation)]
    if any(get_origin(part) is Literal for part in parts) or str in parts:
        return str | None
    return (float if float in parts else int) | None


@command(whole=True)
def check(data: Data, config: Config, quiet: bool) -> Shown:
    """Read a file of examples, run every data check and print what was found."""
    from tunesmith import console

    findings = tunesmith.check(data, config)
    lines = [console.read_text(findings.read), *(_spelled(console.finding_text(finding)) for finding in findings)]
    failed = any(finding.level == "failure" for finding in findings)
    shown = [
        {key: _spelled(value) if key in ("message", "advice") else value for key, value in finding.to_dict().items()}
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
    return {"run": str(run), **run.record}, f"{_spelled(console.summary(run.content))}\n{where}"


@command(AdaptConfig, whole=True)
def adapt(config: AdaptConfig, progress: Progress, data: TextsAgain = None) -> Shown:
    """Continue masked-language-model training on unlabelled texts; the result is a starting point for train."""
    from tunesmith import console

    adapted = tunesmith.adapt(data, config, progress)
    return {"folder": str(adapted), **adapted.record}, console.adapted_text(adapted)


@command(names=READING)
def evaluate(
    run: RunFolder,
    data: Data,
    progress: Progress,
    against: Annotated[str | None, typer.Option(help="Second run, for a paired test.", metavar="RUN2")] = None,
    **reading: Any,
) -> Shown:
    """Score a run on new labelled data, with intervals; what no option says is as in training."""
    from tunesmith import console

    result = tunesmith.evaluate(run, data, against, progress, **reading)
    return result.to_dict(), console.evaluation_text(result, run, data, against)


@command(names=READING)
def predict(
    run: RunFolder,
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
    reading |= {"top_k": top_k, "threshold": threshold}
    if out is not None:
        written = tunesmith.write_predictions(
            run, file, out, precision, progress, only=only, overwrite=overwrite, **reading
        )
        return written.to_dict(), "" if quiet else str(written)
    if only or overwrite:
        raise UsageError(f"`{'only' if only else 'overwrite'}`: needs `out`, the file to be written")
    from tunesmith.tasks.predictions import rounded

    predictions = map(rounded, tunesmith.predict(run, file, precision, progress, **reading))
    if json:
        return {"predictions": list(predictions)}, ""
    for prediction in predictions:
        print(jsons.dumps(prediction, ensure_ascii=False))
    return None


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
) -> Shown:
    """The whole path on the packaged model and corpus, without network, in about a minute."""
    from tunesmith.demo import demo as run_demo

    run, advice = run_demo(out, progress)
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
