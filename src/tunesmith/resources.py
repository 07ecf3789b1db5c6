"""Disk, memory and processors: what there is, asked before it is needed, and told where it ran out.

Only what surely does not fit is refused beforehand. Where the system does not tell what there is, nothing is.
"""

from __future__ import annotations

import errno
import math
import os
import re
import resource
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rich.filesize import decimal

from tunesmith.errors import ResourceError

PROCESS, CGROUPS = Path("/proc/self"), Path("/sys/fs/cgroup")


def free_bytes(folder: Path) -> int | None:
    """What this user may still write on the disk of a folder; None where the system does not tell."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    blocks = found.f_bfree if os.geteuid() == 0 else found.f_bavail
    return blocks * found.f_frsize if found.f_blocks else None


def largest_file() -> int | None:
    """Bytes that a file of this process may have (``ulimit -f``), or None."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def require_disk(folder: Path, need: int, file: int, there: int, what: str) -> None:
    """Refuse what does not fit on the disk of a folder.

    Args:
        need: bytes in all.
        file: bytes of the largest file among them.
        there: bytes of it that are on the disk already, or are replaced.
        what: needs them.

    Raises:
        ResourceError: it does not fit.
    """
    free, most = free_bytes(folder), largest_file()
    if most is not None and file > most:
        raise ResourceError(
            f"{folder}: {what} needs a file of {decimal(file)}, and files may have {decimal(most)}; raise ulimit -f"
        )
    if free is not None and need - there > free:
        raise ResourceError(
            f"{folder}: {what} needs {decimal(need - there)} there, and {decimal(free)} are free; "
            "free some, or give another output.out"
        )


def require_memory(need: int, what: str, advice: str) -> None:
    """Refuse what does not fit into memory.

    Raises:
        ResourceError: it does not.
    """
    have = available_memory()
    if have is not None and need > have:
        raise ResourceError(f"memory: {what} needs {decimal(need)}, and {decimal(have)} are available; {advice}")


def available_memory() -> int | None:
    """Bytes that this process can still get: of the machine, its control groups and its limits; None if none tells."""
    return min((found for found in (_of_machine(), _of_groups(), _of_limits()) if found is not None), default=None)


def memory_words(error: BaseException) -> str:
    """That memory, or room for threads, ran out; how much was wanted, where the error says so, and what there is."""
    wanted = re.search(r"tried to allocate ([\d.,]+ ?\w+)", str(error))
    have = available_memory()
    figures = [f"{wanted[1]} were wanted"] if wanted else []
    figures += [] if have is None else [f"{decimal(have)} are available"]
    return f"out of memory ({', '.join(figures)})" if figures else "out of memory"


def processors() -> int:
    """How many this process may keep busy: those that it may run on, or the shares of them that its control groups get.

    More threads than that would be stopped, with what they hold, until the next share.
    """
    allowed = len(os.sched_getaffinity(0))
    return min([allowed, *(max(1, math.ceil(share)) for group in _groups("cpu") if (share := _share(*group)))])


def threads(processes: int = 1) -> int:
    """How many a model may use: ``OMP_NUM_THREADS``, as torch takes it, or as many as can be busy at a time.

    Args:
        processes: that work at the same time; all of them together keep no more busy than there are.
    """
    asked, most = os.environ.get("OMP_NUM_THREADS", ""), max(1, processors() // processes)
    number = int(asked) if asked.isdecimal() and int(asked) else most
    return number if processes == 1 else min(number, most)


def keep_to_processors() -> None:
    """Let libraries of native code start no more threads than `processors`; they see those of the machine.

    For commands, before the first of these libraries is imported.
    """
    if (number := processors()) < len(os.sched_getaffinity(0)):
        os.environ.setdefault("OMP_NUM_THREADS", str(number))


def _of_machine() -> int | None:
    facts = _numbers(Path("/proc/meminfo"))
    return 1024 * (facts["MemAvailable"] + facts.get("SwapFree", 0)) if "MemAvailable" in facts else None


def _of_limits() -> int | None:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    try:
        used = int((PROCESS / "statm").read_text().split()[0]) * resource.getpagesize()
    except (OSError, ValueError):
        return None
    return None if limit == resource.RLIM_INFINITY else max(0, limit - used)


def _of_groups() -> int | None:
    return min((left for group in _groups("memory") if (left := _left_in_group(*group)) is not None), default=None)


def _groups(controller: str) -> Iterator[tuple[Path, bool]]:
    """Each control group above this process that a controller has, and whether it is of the second version."""
    try:
        lines = (PROCESS / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2) if line.count(":") > 1 else ("", "none", "")
        second = not controllers
        if not second and controller not in controllers.split(","):
            continue
        root = CGROUPS if second else CGROUPS / controller
        own = root / path.lstrip("/")
        yield from ((group, second) for group in (own, *own.parents) if group.is_relative_to(root))


def _share(group: Path, second: bool) -> float | None:
    """Processors that a control group may keep busy; None where it has no limit."""
    files = ("cpu.max",) if second else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    try:
        quota, period = (float(word) for name in files for word in (group / name).read_text().split())
    except (OSError, ValueError):  # "max" is no number
        return None
    return quota / period if quota > 0 and period > 0 else None


def _left_in_group(group: Path, second: bool) -> int | None:
    limit, used = ("memory.max", "memory.current") if second else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    try:
        found = int((group / limit).read_text()) - int((group / used).read_text())  # "max" is no number
    except (OSError, ValueError):
        return None
    facts = _numbers(group / "memory.stat")  # files that are kept in memory as long as nobody needs it
    return max(0, found + facts.get("inactive_file", 0) + facts.get("active_file", 0))


def _numbers(file: Path) -> dict[str, int]:
    """Lines of a name and a number."""
    try:
        pairs = [line.split()[:2] for line in file.read_text().splitlines()]
    except OSError:
        return {}
    return {pair[0].rstrip(":"): int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def folder_bytes(folder: Path) -> int:
    """Of the files in a folder and below it."""
    sizes = 0
    for path in folder.rglob("*"):
        try:
            sizes += path.lstat().st_size if not path.is_dir() else 0
        except OSError:  # gone meanwhile
            continue
    return sizes


def disk_words(error: BaseException, *folders: Path, need: int = 0) -> str:
    """Where there is no room for a file, how much there is, and what to do.

    Args:
        error: see `is_disk_full`.
        folders: where it may have been, if the error does not say so and it was not the one for temporary files.
        need: bytes that were to be written, if they are known.
    """
    if getattr(error, "errno", None) == errno.EFBIG or f"os error {errno.EFBIG})" in str(error):
        place = f"{folders[0]}: " if folders else ""
        return f"{place}a file grew to the {decimal(largest_file() or 0)} that it may have (ulimit -f); raise it"
    places = {str(folder): free_bytes(folder) for folder in folders}
    with suppress(OSError):  # no folder for temporary files that can be written
        temporary = tempfile.gettempdir()
        places.setdefault(f"{temporary} (for temporary files, see TMPDIR)", free_bytes(Path(temporary)))
    free, place = min(((free, place) for place, free in places.items() if free is not None), default=(0, "here"))
    wanted = f"{decimal(need)} more are needed and " if need else ""
    return f"{place}: no space left on the disk ({wanted}{decimal(free)} are free); free some"
