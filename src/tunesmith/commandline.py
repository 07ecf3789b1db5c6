"""How functions become commands: options from the settings, results printed, errors as lines and exit codes.

Results go to standard output (one JSON object with ``--json``), progress and messages to standard error.
"""

from __future__ import annotations

import ctypes
import inspect
import os
import platform
import resource
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

import tunesmith
from tunesmith import extras, signals, startup
from tunesmith.config.loading import choices, fields, flag, flags, resolve
from tunesmith.config.schema import Config, Section
from tunesmith.errors import (
    DataError,
    Interrupted,
    TunesmithError,
    UsageError,
    is_disk_full,
    is_out_of_files,
    is_out_of_memory,
)
from tunesmith.progress import Progress
from tunesmith.registry import did_you_mean
from tunesmith.resources import disk_words, memory_words
from tunesmith.spelling import left_to_command, spell
from tunesmith.text import harmless, json_text

app = typer.Typer(
    name="tunesmith",
    help="Fine-tune pretrained text models on your own data.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

Shown = tuple[Mapping[str, Any], str]


def main() -> None:
    """Run a command; errors become one line each on standard error and an exit code."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # before it is imported: no advice
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    stop = signals.current()
    if "--resume" in options_of(_command_name()):
        stop.saved = "nothing was changed; the same command goes on, or starts again"
    if isinstance(stop, signals.Command):
        stop.spelled = spelled
    keep_freed_memory()
    try:
        exit_code, messages = _run()
        if isinstance(stop, signals.Command):
            stop.over()
    except BaseException as error:
        if stop.arrived is None or not isinstance(stop, signals.Command):
            raise
        # Whatever became of it on its way: libraries turn one error into another.
        stop.tell(str(error) if isinstance(error, Interrupted) else "")
        exit_code, messages = stop.exit_code, []
    messages = [harmless(spelled(message)) for message in messages]
    with suppress(OSError):
        for message in messages:
            print(f"tunesmith: {message}", file=sys.stderr)
        if messages and "--json" in sys.argv:
            print(json_text({"error": messages, "exit_code": exit_code}))
    try:
        sys.stdout.flush()
    except OSError:  # Python would try once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(exit_code)


def _run() -> tuple[int, list[str]]:
    """The exit code of a command, and what is to be said of its errors."""
    try:
        code = int(app(standalone_mode=False) or 0)
        put(end="", flush=True)  # what cannot be written is noticed here
        return code, []
    except (BrokenPipeError, SystemExit) as error:  # the reader of our output went away, as `head` does
        if not isinstance(error.__context__ or error, BrokenPipeError):
            raise
        return 0, []
    except Exception as error:
        if signals.current().arrived is not None:
            raise
        if "--debug" in sys.argv:
            print(harmless(traceback.format_exc()), file=sys.stderr)
        return _said_of(error)


def _said_of(error: Exception) -> tuple[int, list[str]]:
    """The exit code and the lines for an error."""
    if isinstance(error, TunesmithError):
        return error.exit_code, str(error).splitlines()
    if isinstance(error, ModuleNotFoundError) and (advice := extras.advice(error)):
        return UsageError.exit_code, [advice]
    if hasattr(error, "format_message"):  # click's own errors: unknown flag, missing argument
        message = error.format_message()
        if "No such command" in message:
            message = f"no command {_command_name()!r}; {did_you_mean(_command_name(), list(commands()))}"
        return 2, [message] if message else []  # no argument at all: its help was shown
    if is_out_of_memory(error):
        trains = "--batch-size" in options_of(_command_name())
        advice = "lower training.batch_size or training.max_length" if trains else "give it less at a time"
        return 5, [f"{memory_words(error)}; {advice}"]
    if is_disk_full(error):
        named = getattr(error, "filename", None)  # a file, or standard output
        return 5, [f"{named}: no space left on the disk; free some" if named else disk_words(error)]
    if is_out_of_files(error):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return 5, [f"too many files are open at a time (at most {most}, see ulimit -n); raise it"]
    if "No usable temporary directory" in str(error):
        return 5, ["no folder for temporary files can be written; free some space, or set TMPDIR to one that can"]
    what = f"{type(error).__name__}: {error}"
    return 1, [f"internal error: {what}; run again with --debug and report it"]


def put(text: str = "", **options: Any) -> None:
    """Print on standard output; an error that comes of it names the place."""
    try:
        print(text, **options)
    except OSError as error:
        error.filename = "standard output"
        raise


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


def spelled(message: str) -> str:
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
            offered = {"json": json, "quiet": quiet, "progress": Progress(quiet, spelled)}
            given |= {name: value for name, value in offered.items() if name in asked}
            startup.spare_pandas()
            with left_to_command():
                value, text = function(**given) or (None, "")
            if shown := json_text(value) if json and value is not None else harmless(text):
                put(shown)
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
