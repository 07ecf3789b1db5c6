"""The command line: one short function per command, which parses, calls the function of the same name, and prints.

Results go to standard output (one JSON object with ``--json``), progress and messages to standard error.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from tunesmith.config import loading as resolving
from tunesmith.config import schema as settings
from tunesmith.config.schema import AdaptConfig
from tunesmith.errors import TunesmithError, UsageError
from tunesmith.memory import keep_freed_memory
from tunesmith.spelling import spell

app = typer.Typer(
    name="tunesmith",
    help="Fine-tune pretrained text models on your own data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

RESUMABLE = (["train"], ["adapt"])
NO_MEMORY = "out of memory; lower training.batch_size or training.max_length"
OUT_OF_MEMORY = ("out of memory", "can't allocate memory")  # torch raises plain RuntimeErrors on the CPU

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no messages.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


Command = Callable[[str, resolving.Tree, bool, bool], None]
DataArgument = Annotated[str, typer.Argument(help="File or folder of examples.", metavar="DATA")]
ConfigOption = Annotated[str | None, typer.Option("--config", help="Configuration file; see `tunesmith init`.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Any setting: key=value.", metavar="KEY=VALUE")]


def main() -> None:
    """Run a command; errors become one line each on standard error and an exit code."""
    _quieten_libraries()
    keep_freed_memory()
    debug, as_json = "--debug" in sys.argv, "--json" in sys.argv
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        advice = "; the same command with output.resume=true goes on" if sys.argv[1:2] in RESUMABLE else ""
        _fail([f"interrupted{advice}"], 130, as_json)
    except TunesmithError as error:
        if debug:
            traceback.print_exc()
        _fail(str(error).splitlines(), error.exit_code, as_json)
    except MemoryError:
        _fail([NO_MEMORY], 5, as_json)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if hasattr(error, "format_message"):  # click's own errors: unknown flag, missing argument
            _fail([error.format_message()], 2, as_json)
        if any(sign in str(error) for sign in OUT_OF_MEMORY):
            _fail([NO_MEMORY], 5, as_json)
        if debug:
            traceback.print_exc()
        _fail([f"internal error: {type(error).__name__}: {error}; run again with --debug and report it"], 1, as_json)


def _fail(messages: list[str], exit_code: int, as_json: bool) -> None:
    lines = [_spelled(message) for message in messages]
    for line in lines:
        print(f"tunesmith: {line}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": lines, "exit_code": exit_code}, ensure_ascii=False))
    sys.exit(exit_code)


def _spelled(message: str) -> str:
    """A message with its settings as the running command takes them."""
    return spell(message, options_of(sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:])


@lru_cache
def options_of(command: str) -> frozenset[str]:
    """The options of a command; none if there is no such command."""
    found = typer.main.get_command(app).commands.get(command)  # type: ignore[attr-defined]
    return frozenset(option for parameter in found.params for option in parameter.opts) if found else frozenset()


def _quieten_libraries() -> None:
    """Before any library is imported: no advice from its authors on the user's screen, no thread warnings."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))


def _configured(kind: type[resolving.Tree]) -> Callable[[Command[resolving.Tree]], Callable[..., None]]:
    """Make a command ``(data, config, json, quiet)`` from one option for every setting that has a flag.

    The flags, ``--config`` and ``--set`` are resolved, all problems at once, before the command begins.
    """
    by_key, flags = dict(resolving.fields(kind)), resolving.flags(kind)

    def decorate(command: Command[resolving.Tree]) -> Callable[..., None]:
        def resolved(
            data: DataArgument,
            config: ConfigOption = None,
            set: SetOption = None,
            json: Json = False,
            quiet: Quiet = False,
            debug: Debug = False,
            **options: Any,
        ) -> None:
            command(data, resolving.resolved(kind, config, options, tuple(set or ())), json, quiet)

        parameters = list(inspect.signature(resolved, eval_str=True).parameters.values())[:-1]
        for name, key in flags.items():
            option = typer.Option(
                f"--{name.replace('_', '-')}", help=by_key[key].description, rich_help_panel=key.split(".")[0]
            )
            annotation = Annotated[_flag_type(by_key[key].annotation), option]  # type: ignore[valid-type]
            parameters.append(
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            )
        resolved.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        resolved.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        resolved.__doc__, resolved.__name__ = command.__doc__, command.__name__
        return resolved

    return decorate


def _flag_type(annotation: Any) -> Any:
    """What the command line parses; ranges and choices are checked by the settings themselves, all at once."""
    if annotation is bool:
        return bool | None
    parts = [annotation, *get_args(annotation)]
    if any(get_origin(part) is Literal for part in parts) or str in parts:
        return str | None
    return (float if float in parts else int) | None


@app.command()
@_configured(settings.Config)
def check(data: str, config: settings.Config, json: bool, quiet: bool) -> None:
    """Read a file of examples, run every data check and print what was found."""
    from tunesmith import api, console

    findings = api.check(data, config)
    failed = any(finding.level == "failure" for finding in findings)
    if json:
        _print_json({"findings": [finding.to_dict() for finding in findings], "failed": failed})
    elif not quiet:
        for finding in findings:
            print(_spelled(console.finding_text(finding)))
    if failed:
        raise typer.Exit(3)


@app.command()
@_configured(settings.Config)
def train(data: str, config: settings.Config, json: bool, quiet: bool) -> None:
    """Check, split, train, evaluate, report; print the score and the run folder."""
    from tunesmith import api, console
    from tunesmith.progress import Progress

    run = api.train(data, config, Progress(quiet, _spelled))
    if json:
        _print_json({"run": str(run), **run.record})
    else:
        print(console.summary(run.record))
        print(f"run: {run}   report: {run.folder / 'report.html'}")


@app.command()
@_configured(AdaptConfig)
def adapt(data: str, config: AdaptConfig, json: bool, quiet: bool) -> None:
    """Continue masked-language-model training on unlabelled texts; the result is a starting point for train."""
    from tunesmith import api
    from tunesmith.evaluation.metrics import PERPLEXITY
    from tunesmith.progress import Progress

    adapted = api.adapt(data, config, Progress(quiet, _spelled))
    if json:
        _print_json({"folder": str(adapted), **adapted.record})
        return
    names = {"before": "before", "after_warmup": "after the head's warm-up", "after": "after"}
    for name, score in adapted.perplexity.items():
        found = score.text(PERPLEXITY)
        print(f"perplexity on held-out text, {names[name]}: {found}  n={score.n} blocks")
    print(f"model: {adapted}   next: tunesmith train DATA --model {adapted}")


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(help="Run folder.", metavar="RUN")],
    data: Annotated[str, typer.Argument(help="File or folder of labelled examples.", metavar="DATA")],
    against: Annotated[str | None, typer.Option(help="Second run, for a paired test.", metavar="RUN2")] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Score a run on new labelled data, with intervals."""
    from tunesmith import api, console

    result = api.evaluate(run, data, against)
    if json:
        _print_json(result.to_dict())
    else:
        print(console.evaluation_text(result, against))


@app.command()
def predict(
    run: Annotated[str, typer.Argument(help="Run folder, or the model folder of one.", metavar="RUN")],
    file: Annotated[
        str, typer.Argument(help="File of texts; - for one text (or JSON object) a line.", metavar="FILE")
    ] = "-",
    text: Annotated[str | None, typer.Option(help="Column with the text.")] = None,
    text_pair: Annotated[str | None, typer.Option(help="Column with the second text.")] = None,
    precision: Annotated[
        str, typer.Option(help="auto, float32 (as plain transformers), bfloat16 or float16 (faster, rounded).")
    ] = "float32",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Predictions as JSON lines (with --json as one object), in the order of the input."""
    from tunesmith import api

    predictions = api.predict(run, file, text, text_pair, precision)
    if json:
        _print_json({"predictions": list(predictions)})
        return
    for prediction in predictions:
        _print_json(prediction)


@app.command()
def models(
    domain: Annotated[str | None, typer.Option(help="Only models for texts of this domain.")] = None,
    language: Annotated[str | None, typer.Option(help="Only models that read this language (de, fr, …).")] = None,
    data: Annotated[str | None, typer.Option(help="Measure tokenizers on these texts and rank by fit.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Measure this folder, too.", metavar="FOLDER")] = None,
    task: Annotated[str | None, typer.Option(help="The task, where the data can be read in two ways.")] = None,
    text: Annotated[str | None, typer.Option(help="Column with the text.")] = None,
    text_pair: Annotated[str | None, typer.Option(help="Column with the second text.")] = None,
    format: Annotated[str | None, typer.Option(help="Format of the file (else detected).")] = None,
    delimiter: Annotated[str | None, typer.Option(help="Column separator of a CSV file.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Character encoding of the file.")] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Starting points by domain and language; with --data, how well the tokenizers on this machine fit it."""
    from tunesmith import api, console

    reading = {"task": task, "text": text, "text_pair": text_pair, "format": format}
    reading |= {"delimiter": delimiter, "encoding": encoding}
    found = api.find_models(domain, language, data, model or (), **reading)
    if json:
        _print_json({"models": [one.to_dict() for one in found]})
    else:
        print(console.models_text(found))


@app.command()
def init(
    task: Annotated[str | None, typer.Option(help="The task.")] = None,
    method: Annotated[str | None, typer.Option(help="The method.")] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Print a complete configuration file, every default written out."""
    resolved = resolving.resolve(options={"task": task, "method": method})
    if json:
        _print_json(resolved.model_dump(mode="json"))
    else:
        print(resolving.dump(resolved, comments=True), end="")


@app.command()
def demo(
    out: Annotated[str, typer.Option(help="Run folder; an earlier demo there is replaced.")] = "runs/demo",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """The whole path on the packaged model and corpus, without network, in about a minute."""
    from tunesmith import console
    from tunesmith.demo import demo as run_demo
    from tunesmith.progress import Progress

    run, advice = run_demo(out, Progress(quiet, _spelled))
    if json:
        _print_json({"run": str(run), **run.record})
    else:
        print(console.summary(run.record))
        print(f"run: {run}   report: {run.folder / 'report.html'}")
        if not quiet:
            print(advice)


@app.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove all of it, and nothing else in the folder.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show what frozen layers computed and later runs will read again, or remove it."""
    from tunesmith import console
    from tunesmith.engine import cachedir
    from tunesmith.text import counted

    folder = cachedir.cache_folder()
    if problem := cachedir.objection(folder):
        raise UsageError(problem)
    if clear:
        cleared = cachedir.clear(folder)
        if json:
            _print_json({"folder": str(folder), **cleared.to_dict()})
        elif not quiet:
            print(f"{folder}: removed {counted(cleared.stores, 'store')}, {cachedir.size_text(cleared.bytes)}")
        if cleared.left and not quiet:
            print(f"left alone, not of the cache or in use: {', '.join(map(repr, cleared.left))}", file=sys.stderr)
        return
    stores = [store.to_dict() for store in cachedir.stores(folder)]
    total = sum(store["bytes"] for store in stores)
    if json:
        _print_json({"folder": str(folder), "stores": stores, "bytes": total})
        return
    for store in stores:
        print(console.store_text(store, cachedir.size_text(store["bytes"])))
    print(f"{folder}: {cachedir.size_text(total)}")
