"""Watching every call by which a child changes files, native code included, and ending it at one (ptrace).

Calls are seen where the system sees them, so it does not matter which library makes them. Linux on x86-64 only.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from tests.campaigns.processes import Child, Ended

# Requests and options of ptrace(2), from sys/ptrace.h.
TRACEME, GETREGS, SETREGS, SYSCALL, SETOPTIONS = 0, 12, 13, 24, 0x4200
SYSCALLS_MARKED, FORKS, VFORKS, CLONES, EXITKILL = 0x1, 0x2, 0x4, 0x8, 0x100000
ALL_CHILDREN = 0x40000000  # __WALL of waitpid(2): threads, too
# Places of registers in user_regs_struct, and how many there are.
RDX, RSI, RDI, ORIG_RAX, R10, R8, REGISTERS = 12, 13, 14, 15, 7, 9, 27

WRITES = {1: "write", 18: "pwrite64", 20: "writev", 40: "sendfile", 326: "copy_file_range", 77: "ftruncate"}
SYNCS = {74: "fsync", 75: "fdatasync"}
ON_PATH = {76: "truncate", 82: "rename", 83: "mkdir", 84: "rmdir", 85: "creat", 86: "link", 87: "unlink", 2: "open"}
AT_FOLDER = {257: "openat", 258: "mkdirat", 263: "unlinkat", 264: "renameat", 316: "renameat2"}
OPENS = {"open", "openat", "creat"}
RENAMES = {"rename", "renameat", "renameat2"}
Action = Literal["go", "kill", "half"]


@dataclass
class Call:
    """A call that changes a file, or makes a change last.

    Attributes:
        path: what it changes; ``other`` is the new name of a rename.
        size: bytes to be written.
        offset: where they are written.
        data: the bytes of a write, if they are kept.
        flags: of an open.
    """

    name: str
    path: str
    other: str = ""
    size: int = 0
    offset: int = 0
    data: bytes = field(default=b"", repr=False)
    flags: int = 0

    def __str__(self) -> str:
        return f"{self.name} {Path(self.path).name}" + (f" to {Path(self.other).name}" if self.other else "")


def unavailable() -> str | None:
    """Why it cannot be done here, if it cannot."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return "calls are watched on Linux and x86-64 only"
    pid = os.fork()
    if not pid:
        os._exit(_ptrace(TRACEME, 0) != 0)
    return "the system does not let processes be traced" if os.waitpid(pid, 0)[1] else None


def traced() -> None:
    """What a child does first, to be watched."""
    if _ptrace(TRACEME, 0):
        raise OSError(ctypes.get_errno(), "ptrace")
    os.kill(os.getpid(), signal.SIGSTOP)


def watch(child: Child, root: Path, entering: Callable[[Call], Action], keep_data: bool = False) -> Ended:
    """Let a child that began with `traced` run, and ask before each call that changes something below `root`.

    Args:
        entering: what is to happen: let it go on, kill it before the call, or after half of what it writes.
        keep_data: read what is written.
    """
    _, status = os.waitpid(child.pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        return child.ended()
    options = SYSCALLS_MARKED | FORKS | VFORKS | CLONES | EXITKILL
    _ptrace(SETOPTIONS, child.pid, options)
    _ptrace(SYSCALL, child.pid)
    inside: dict[int, bool] = {}
    doomed: set[int] = set()
    for pid, stop in _stops(child.pid):
        deliver = 0
        if stop == signal.SIGTRAP | 0x80:
            inside[pid] = not inside.get(pid, False)
            if inside[pid]:
                action = _enter(pid, root, entering, keep_data)
                if action == "kill":
                    child.kill()
                elif action == "half":
                    doomed.add(pid)
            elif pid in doomed:
                child.kill()
        elif stop & 0xFF not in (signal.SIGTRAP, signal.SIGSTOP):
            deliver = stop
        _ptrace(SYSCALL, pid, deliver)
    return child.ended()


def _stops(leader: int) -> Iterator[tuple[int, int]]:
    """Each stop of a process or thread, until the first process has ended; it stays to be collected."""
    while True:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WSTOPPED | os.WNOWAIT | ALL_CHILDREN)
        if found is None:
            continue
        if found.si_pid == leader and found.si_code in (os.CLD_EXITED, os.CLD_KILLED, os.CLD_DUMPED):
            return
        pid, status = os.waitpid(found.si_pid, ALL_CHILDREN)
        if os.WIFSTOPPED(status):
            yield pid, os.WSTOPSIG(status)


def _enter(pid: int, root: Path, entering: Callable[[Call], Action], keep_data: bool) -> Action:
    registers = (ctypes.c_ulonglong * REGISTERS)()
    _ptrace(GETREGS, pid, ctypes.addressof(registers))
    call = _call(pid, registers, keep_data) if registers[ORIG_RAX] in KNOWN else None
    if call is None or not (_below(call.path, root) or _below(call.other, root)):
        return "go"
    action = entering(call)
    if action == "kill":
        registers[ORIG_RAX] = 2**64 - 1  # no call at all
        _ptrace(SETREGS, pid, ctypes.addressof(registers))
    elif action == "half":
        amount = {"sendfile": R10, "copy_file_range": R8}.get(call.name, RDX)
        registers[amount] = 1 if call.name == "writev" else max(1, call.size // 2)
        _ptrace(SETREGS, pid, ctypes.addressof(registers))
    return action


KNOWN = WRITES | SYNCS | ON_PATH | AT_FOLDER


def _call(pid: int, registers: Any, keep_data: bool) -> Call | None:
    """What a call is about; None where it changes nothing."""
    name = KNOWN[registers[ORIG_RAX]]
    first, second, third, fourth = (registers[index] for index in (RDI, RSI, RDX, R10))
    if registers[ORIG_RAX] in WRITES:
        return _write(name, pid, registers, keep_data)
    if registers[ORIG_RAX] in SYNCS:
        return Call(name, _open_file(pid, first))
    if registers[ORIG_RAX] in ON_PATH:
        call = Call(name, _path(pid, first), flags=second if name == "open" else os.O_CREAT | os.O_TRUNC)
        call.other = _path(pid, second) if name in ("rename", "link") else ""
    else:
        call = Call(name, _path(pid, second, first), flags=third)
        call.other = _path(pid, fourth, third) if name in RENAMES else ""
    changes = name not in OPENS or call.flags & (os.O_CREAT | os.O_TRUNC)
    return call if changes else None


def _write(name: str, pid: int, registers: Any, keep_data: bool) -> Call:
    first, second, third, fourth = (registers[index] for index in (RDI, RSI, RDX, R10))
    if name == "ftruncate":
        return Call(name, _open_file(pid, first), offset=second)
    # Target, source, address of the place in the source (0: where its descriptor stands), most bytes.
    copies = {"sendfile": (first, second, third, fourth), "copy_file_range": (third, first, second, registers[R8])}
    number, source, start, size = copies.get(name, (first, -1, 0, third))
    if source >= 0:
        start = struct.unpack("q", _memory(pid, start, 8))[0] if start else _position(pid, source)
        size = min(size, max(0, os.stat(f"/proc/{pid}/fd/{source}").st_size - start))
    call = Call(name, _open_file(pid, number), size=size)
    call.offset = fourth if name == "pwrite64" else _position(pid, number)
    parts = [(second, third)]
    if name == "writev":
        words = struct.unpack(f"{2 * third}Q", _memory(pid, second, 16 * third))
        parts = list(zip(words[::2], words[1::2], strict=True))
        call.size = sum(words[1::2])
    if keep_data and source >= 0:
        with open(f"/proc/{pid}/fd/{source}", "rb") as copied:
            copied.seek(start)
            call.data = copied.read(size)
    elif keep_data:
        call.data = b"".join(_memory(pid, address, length) for address, length in parts)
    return call


def _open_file(pid: int, number: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{number}")
    except OSError:
        return ""


def _position(pid: int, number: int) -> int:
    try:
        facts = Path(f"/proc/{pid}/fdinfo/{number}").read_text(encoding="ascii")
        position, flags = (line.split()[1] for line in facts.splitlines()[:2])
        end = int(flags, 8) & os.O_APPEND
        return os.stat(f"/proc/{pid}/fd/{number}").st_size if end else int(position)
    except (OSError, ValueError):
        return 0


def _path(pid: int, address: int, folder: int | None = None) -> str:
    """The path at an address, relative to an open folder or to where the process is."""
    text = _memory(pid, address, 4096).partition(b"\0")[0].decode(errors="surrogateescape")
    inside = ctypes.c_int(folder & 0xFFFFFFFF).value if folder is not None else -100  # AT_FDCWD
    base = os.readlink(f"/proc/{pid}/cwd") if inside < 0 else _open_file(pid, inside)
    return os.path.normpath(os.path.join(base, text))


def _memory(pid: int, address: int, size: int) -> bytes:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        try:
            return memory.read(size)
        except OSError:  # the end of a mapping comes first
            memory.seek(address)
            return memory.read(min(size, 4096 - address % 4096))


def _below(path: str, root: Path) -> bool:
    return path.startswith(f"{root}{os.sep}") or path == str(root)


@lru_cache(1)
def _library() -> Any:
    library = ctypes.CDLL(None, use_errno=True)
    library.ptrace.restype = ctypes.c_long
    library.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    return library


def _ptrace(request: int, pid: int, data: int = 0) -> int:
    return int(_library().ptrace(request, pid, None, data))
