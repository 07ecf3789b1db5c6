from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from tests import tiny
from tunesmith import resources
from tunesmith.errors import ResourceError, is_out_of_files, is_out_of_memory, is_shortage
from tunesmith.resources import (
    available_memory,
    disk_words,
    free_bytes,
    keep_to_processors,
    memory_words,
    processors,
    require_disk,
    require_memory,
    threads,
)
from tunesmith.training import needs
from tunesmith.training.arguments import TrainingArguments


def test_disk_is_refused_with_need_and_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "free_bytes", lambda folder: 5_000_000)
    require_disk(tmp_path, 5_000_000, 10, 0, "the run")
    require_disk(tmp_path, 9_000_000, 10, 4_000_000, "the run")
    with pytest.raises(ResourceError, match=r"the run needs 7\.0 MB there, and 5\.0 MB are free; .*output\.out"):
        require_disk(tmp_path, 9_000_000, 10, 2_000_000, "the run")


def test_predictions_count_and_a_finished_run_that_is_replaced_makes_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = tiny.make_records("qa", 200)
    answers = needs.answer_bytes([records, records])
    assert answers == 2 * sum(len(one.text.encode()) + len(str(one.text_pair).encode()) for one in records)
    model = nn.Linear(100, 100, bias=False)
    monkeypatch.setattr(resources, "free_bytes", lambda folder: 45_000)
    needs.require_result(tmp_path, model)
    with pytest.raises(ResourceError, match=r"the model, with the predictions, needs \d\d\.\d kB there"):
        needs.require_result(tmp_path, model, answers)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(bytes(40_000))
    (tmp_path / "run.json").write_text('{"status": "stopped"}')
    needs.require_result(tmp_path, model, answers)
    (tmp_path / "run.json").write_text('{"status": "done"}')
    with pytest.raises(ResourceError, match="the model, with the predictions"):
        needs.require_result(tmp_path, model, answers)
    arguments = TrainingArguments(output_dir=str(tmp_path / "checkpoints"), save_strategy="no")
    with pytest.raises(ResourceError, match="the run, with its checkpoints, needs"):
        needs.require_steps(model, arguments, "step", answers)


@pytest.mark.parametrize("blocks", [0, 2**60])
def test_a_disk_that_tells_nothing_or_is_huge_is_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: int
) -> None:
    facts = SimpleNamespace(f_blocks=blocks, f_bfree=blocks, f_bavail=blocks, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda folder: facts)
    require_disk(tmp_path, 10**15, 10, 0, "the run")
    assert free_bytes(tmp_path) == (blocks * 4096 or None)


def test_a_limit_of_file_sizes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1_000_000, resource.RLIM_INFINITY))
    with pytest.raises(ResourceError, match=r"a file of 2\.0 MB, and files may have 1\.0 MB; raise ulimit -f"):
        require_disk(tmp_path, 2_000_000, 2_000_000, 0, "the run")
    words = disk_words(OSError(errno.EFBIG, "File too large"), tmp_path)
    assert words == f"{tmp_path}: a file grew to the 1.0 MB that it may have (ulimit -f); raise it"


def test_where_there_is_no_room_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    other = tmp_path / "temporary"
    monkeypatch.setattr("tempfile.tempdir", str(other))
    free = {tmp_path: 1_000, other: 2_000_000}
    monkeypatch.setattr(resources, "free_bytes", lambda folder: free[folder])
    said = f"{tmp_path}: no space left on the disk (3.0 kB more are needed and 1.0 kB are free); free some"
    assert disk_words(full, tmp_path, need=3_000) == said
    free[other] = 0
    assert disk_words(full, tmp_path).startswith(f"{other} (for temporary files, see TMPDIR): no space left")


def limits(monkeypatch: pytest.MonkeyPatch, folder: Path, groups: str, files: dict[str, str]) -> None:
    process, root = folder / "self", folder / "groups"
    monkeypatch.setattr(resources, "PROCESS", process)
    monkeypatch.setattr(resources, "CGROUPS", root)
    monkeypatch.setattr(resources, "_of_machine", lambda: 10**15)
    for name, text in {process / "cgroup": groups, **{root / name: text for name, text in files.items()}}.items():
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_text(text)


@pytest.mark.parametrize(
    ("groups", "files", "left"),
    [
        ("0::/job\n", {"job/memory.max": "1000", "job/memory.current": "900", "memory.max": "max"}, 100),
        (
            "0::/a/b\n",
            {
                "a/memory.max": "1000",
                "a/memory.current": "950",
                "a/memory.stat": "inactive_file 30\nother 7\nactive_file 3",
                "a/b/memory.max": "5000",
                "a/b/memory.current": "0",
            },
            83,
        ),
        (  # as a container sees it: the path is the host's, the files are its own
            "5:cpu,memory:/docker/x\n1:name=systemd:/y\n",
            {"memory/memory.limit_in_bytes": "700", "memory/memory.usage_in_bytes": "100"},
            600,
        ),
        ("0::/\n", {}, 10**15),
        ("nonsense", {}, 10**15),
    ],
)
def test_the_memory_of_control_groups(
    groups: str, files: dict[str, str], left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits(monkeypatch, tmp_path, groups, files)
    assert available_memory() == left


@pytest.mark.parametrize(
    ("groups", "files", "number"),
    [
        ("0::/job\n", {"job/cpu.max": "150000 100000", "cpu.max": "max 100000"}, 2),
        ("0::/a/b\n", {"a/cpu.max": "400000 100000", "a/b/cpu.max": "50000 100000"}, 1),
        ("4:cpu,cpuacct:/docker/x\n", {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ("0::/\n", {"cpu.max": "9000000 100000"}, 8),
        ("nonsense", {}, 8),
    ],
)
def test_no_more_threads_than_a_control_group_keeps_busy(
    groups: str, files: dict[str, str], number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits(monkeypatch, tmp_path, groups, files)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": "5"})
    keep_to_processors()
    assert (processors(), threads()) == (number, 5)
    del os.environ["OMP_NUM_THREADS"]
    keep_to_processors()
    assert os.environ == ({} if number == 8 else {"OMP_NUM_THREADS": str(number)})
    assert threads() == number
    assert threads(2) == max(1, number // 2) and threads(100) == 1
    os.environ["OMP_NUM_THREADS"] = "1"
    assert threads(2) == 1


def test_memory_is_refused_with_need_and_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "available_memory", lambda: 3_000_000)
    require_memory(3_000_000, "training", "less")
    with pytest.raises(ResourceError, match=r"training needs 4\.0 MB, and 3\.0 MB are available; less"):
        require_memory(4_000_000, "training", "less")
    monkeypatch.setattr(resources, "available_memory", lambda: None)
    require_memory(10**18, "training", "less")


def test_out_of_memory_is_told_with_what_was_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "available_memory", lambda: 3_000_000)
    error = RuntimeError(
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8000000 bytes. Error code 12"
    )
    assert memory_words(error) == "out of memory (8000000 bytes were wanted, 3.0 MB are available)"
    assert memory_words(MemoryError()) == "out of memory (3.0 MB are available)"


@pytest.mark.parametrize(
    ("error", "memory", "files"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True, False),
        (RuntimeError("can't start new thread"), True, False),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True, False),
        (RuntimeError("std::bad_alloc"), True, False),
        (OSError(errno.EMFILE, "Too many open files"), False, True),
        (Exception("No such thing: Too many open files (os error 24)"), False, True),
        (ValueError("no memory of it"), False, False),
    ],
)
def test_kinds_of_shortage(error: Any, memory: bool, files: bool) -> None:
    assert (is_out_of_memory(error), is_out_of_files(error)) == (memory, files)
    assert is_shortage(error) == (memory or files)
