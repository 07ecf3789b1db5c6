"""The engine on a GPU against stock at its best, within a given time: steps, whole runs, features, memory, launches.

    python benchmarks/gpu.py [--minutes 9]
    python benchmarks/gpu.py --quick    # tiny models, also without a GPU: whether the program works; nothing is written

Models have the shapes of well-known ones and random weights, texts are random tokens: short ones about 15, as in
Banking77, long ones 100 to 400. Stock is padded to the longest of the batch, bfloat16, fused AdamW and
``scaled_dot_product_attention``; in turn on batches of similar length (``group_by_length``), with flash attention where
it is installed, and with `torch.compile`, whose first pass is told apart. All loops of a case take the same texts, in
interleaved rounds; figures are medians. Cases are taken in the order of `jobs` until the time is spent, and what was
left out is said. The result goes to ``results/gpu.json``.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import transformers
from _results import write_result
from _shapes import FIRST_TOKEN, PADDING, SHAPES, Size, Texts, make_model
from datasets import Dataset
from engine import Batch, stepper, tokens_of
from tokenizers import Tokenizer, models
from torch.profiler import ProfilerActivity, profile
from transformers import DataCollatorWithPadding, PreTrainedTokenizerFast, PrinterCallback
from transformers.utils import is_flash_attn_2_available

import tunesmith
from tunesmith.engine import Engine
from tunesmith.models.depth import parameter_order
from tunesmith.tasks.batching import PaddingCollator
from tunesmith.training.inference import pooled_vectors
from tunesmith.training.precision import choose_device

SECONDS = {"minilm": 12, "bert-base": 18, "modernbert-base": 25, "xlm-r-base": 22, "decoder-1b": 45}
"""About what a case of steps takes; compiling, and texts that fill the card, come on top."""
BATCHES, ROUNDS = 8, 5
"""Batches of a pass, and passes of each loop; the first does not count."""


@dataclass(frozen=True)
class Job:
    """A case.

    Attributes:
        name: in the result.
        seconds: about what it takes on a large card.
        measure: its figures.
    """

    name: str
    seconds: float
    measure: Callable[[Size], dict[str, Any]]


# ---- time and memory -------------------------------------------------------------------------------------------------


def timed(work: Callable[[], Any]) -> float:
    """Seconds, until the device has finished."""
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start


def synchronize() -> None:
    if choose_device().type == "cuda":
        torch.cuda.synchronize()


def allocated(peak: bool = False) -> int:
    """Bytes of the card in use, or the most since `forget_peak`; 0 without one."""
    if choose_device().type != "cuda":
        return 0
    return torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()


def forget() -> None:
    """Leave nothing of a case, nor of its peak of memory, to the next."""
    torch.compiler.reset()
    gc.collect()
    if choose_device().type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def interleaved(loops: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each, taken in turn; the first round does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, work in loops.items():
            seconds[name].append(timed(work))
    return {name: statistics.median(values[1:] or values) for name, values in seconds.items()}


def compared(seconds: dict[str, float], ours: str = "engine") -> dict[str, Any]:
    """The seconds, and how many times faster ours is than each, and than the fastest of them."""
    others = {name: value for name, value in seconds.items() if name != ours}
    ratios = {name: round(value / seconds[ours], 2) for name, value in others.items()}
    shown = {name: round(value, 4) for name, value in seconds.items()}
    return {"seconds": shown, "times_faster_than": ratios | {"best": min(ratios.values())}}


def matrix_rate(size: Size) -> dict[str, Any]:
    """Operations a second of a large bfloat16 product of random numbers."""
    n, times = size.of(8192, 256), 20
    left, right = (torch.randn(n, n, device=choose_device()).bfloat16() for _ in range(2))
    seconds = interleaved({"product": lambda: [left @ right for _ in range(times)]}, 4)["product"]
    return {"tflops_a_second": 2 * n**3 * times / seconds / 1e12}


# ---- the cases -------------------------------------------------------------------------------------------------------


def one_pass(step: Callable[[Batch], None], batches: list[Batch]) -> None:
    for batch in batches:
        step(batch)


def steps(shape: str, kind: str, rows: int, compiled: bool, size: Size) -> dict[str, Any]:
    """Seconds of a pass of each loop, the memory it takes beside what was there, and the operations it does."""
    lora, rows = shape == "decoder-1b", size.of(rows, 4)
    forget()
    texts = Texts(kind, rows * size.of(BATCHES, 2), size)
    random, grouped = texts.batches(rows), texts.batches(rows, by_length=True)
    flash = is_flash_attn_2_available() and choose_device().type == "cuda"
    names = ["stock", "grouped", *(["flash"] if flash else []), *(["compiled"] if compiled else []), "engine"]
    loops: dict[str, Callable[[], Any]] = {}
    memory, first, engine = {}, {}, None
    for name in names:
        before = allocated()
        model = make_model(shape, size, "flash_attention_2" if name == "flash" else "sdpa", lora)
        if name == "engine":
            engine = Engine(model, token_ids=tokens_of(random))
        step = stepper(torch.compile(model, dynamic=True) if name == "compiled" else model, True, engine)
        loops[name] = partial(one_pass, step, grouped if name == "grouped" else random)
        first[name] = round(timed(loops[name]), 3)
        for _ in range(2):  # until what recurs is compiled or recorded
            loops[name]()
        memory[name] = allocated(peak=True) - before
        del model, step
        if choose_device().type == "cuda":
            torch.cuda.reset_peak_memory_stats()
    seconds = interleaved(loops, size.of(ROUNDS, 2))
    assert engine is not None
    layers = {name for layer in parameter_order(engine.model).layers for name in layer}
    weights = sum(p.numel() for name, p in engine.model.named_parameters() if name in layers and "lora_" not in name)
    report = {name: part["state"] for name, part in engine.report().items()}
    engine.detach()
    return compared(seconds) | {
        "real_tokens_a_step": round(float(texts.lengths.sum()) / len(random), 1),
        "tflops_a_second": (4 if lora else 6) * float(texts.lengths.sum()) * weights / seconds["engine"] / 1e12,
        "first_pass_seconds": first,
        "peak_bytes": memory,
        "memory_of_stock": round(memory["engine"] / memory["stock"], 3) if memory["stock"] else None,
        "engine": report,
    }


def whole_run(shape: str, kind: str, count: int, epochs: int, frozen: bool, size: Size) -> dict[str, Any]:
    """Seconds of `train` with stock's Trainer, on random batches and on ones of similar length, and with ours."""
    forget()
    texts = Texts(kind, size.of(count, 24), size)
    data = Dataset.from_list([{key: value.tolist() for key, value in texts[i].items()} for i in range(len(texts))])
    tokens = {f"[{number}]": number for number in range(FIRST_TOKEN)}
    build: Any = PreTrainedTokenizerFast
    tokenizer = build(tokenizer_object=Tokenizer(models.WordLevel(tokens, "[0]")), pad_token=f"[{PADDING}]")
    layers = size.of(SHAPES[shape][1].get("num_hidden_layers", 12) - 2, 1)

    def train(ours: bool, strategy: str) -> None:
        model = make_model(shape, size, frozen_layers=layers if frozen else 0)
        kinds: Any = tunesmith if ours else transformers
        with tempfile.TemporaryDirectory() as folder:
            os.environ["TUNESMITH_CACHE"] = folder
            arguments = kinds.TrainingArguments(
                folder,
                per_device_train_batch_size=size.of(32, 4),
                num_train_epochs=epochs,
                bf16=True,
                optim="adamw_torch_fused",
                train_sampling_strategy=strategy,
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=choose_device().type == "cpu",
            )
            options = {"engine_cache_gigabytes": 16.0} if ours and frozen else {}
            collate = DataCollatorWithPadding(tokenizer)
            trainer = kinds.Trainer(model, arguments, data_collator=collate, train_dataset=data, **options)
            trainer.remove_callback(PrinterCallback)
            trainer.train()

    loops = {
        "stock": partial(train, False, "random"),
        "grouped": partial(train, False, "group_by_length"),
        "engine": partial(train, True, "random"),
    }
    return compared(interleaved(loops, size.of(3, 1)))


def features(count: int, size: Size) -> dict[str, Any]:
    """Seconds for the pooled vectors of many short texts, in the order of the texts and in that of their lengths."""
    forget()
    texts = Texts("short", size.of(count, 64), size)
    model = make_model("minilm", size).eval()
    collate, rows = PaddingCollator(PADDING), 256

    @torch.inference_mode()
    def stock(order: np.ndarray) -> np.ndarray:
        found = np.empty((len(order), model.config.hidden_size), dtype=np.float32)
        for cut in np.split(order, range(rows, len(order), rows)):
            batch = collate([texts[int(i)] for i in cut])
            inputs = {name: values.to(choose_device()) for name, values in batch.items() if name != "labels"}
            with torch.autocast(choose_device().type, torch.bfloat16):
                found[cut] = model.base_model(**inputs).pooler_output.float().cpu().numpy()
        return found

    loops = {
        "stock": partial(stock, np.arange(len(texts))),
        "grouped": partial(stock, np.argsort(-texts.lengths, kind="stable")),
        "engine": partial(pooled_vectors, model, texts, collate, "bfloat16"),
    }
    return compared(interleaved(loops, size.of(4, 1))) | {"texts": len(texts)}


def launches(shape: str, kind: str, rows: int, size: Size) -> dict[str, Any]:
    """Of a step of stock and of the engine: kernels, and the share of the time in which the device is idle."""
    forget()
    rows = size.of(rows, 4)
    batches = Texts(kind, 3 * rows, size).batches(rows)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if choose_device().type == "cuda" else [])]
    result: dict[str, Any] = {}
    for name in ("stock", "engine"):
        model = make_model(shape, size)
        engine = Engine(model, token_ids=tokens_of(batches)) if name == "engine" else None
        step = stepper(model, True, engine)
        for _ in range(4):  # until what recurs is recorded
            one_pass(step, batches)
        plain = timed(partial(step, batches[2]))
        with profile(activities=activities) as seen:
            timed(partial(step, batches[2]))
        rows_seen = seen.key_averages()
        kernels = [row for row in rows_seen if row.device_type.name == "CUDA" and not row.is_user_annotation]
        busy = sum(row.self_device_time_total for row in kernels) / 1e6
        most = sorted(kernels, key=lambda row: -row.self_device_time_total)[:12]
        result[name] = {
            "step_ms": round(1e3 * plain, 3),
            "operators": sum(row.count for row in rows_seen if row.key.startswith("aten::")),
            "kernels": sum(row.count for row in kernels),
            "idle_share": round(max(0.0, 1 - busy / plain), 3) if kernels else None,
            "most": [[row.key[:80], row.count, round(row.self_device_time_total / 1e3, 3)] for row in most],
        }
    return result


# ---- the order, and the time -----------------------------------------------------------------------------------------


def jobs() -> Iterator[Job]:
    """What matters most comes first."""

    def of_steps(shape: str, kind: str, rows: int, compiled: bool = False) -> Job:
        full = 3 if kind == "long" and rows == 128 else 1
        name = f"steps {shape} {kind} {rows}{' compiled' if compiled else ''}"
        return Job(name, SECONDS[shape] * full + 90 * compiled, partial(steps, shape, kind, rows, compiled))

    yield Job("matrix rate", 5, matrix_rate)
    yield from (of_steps("minilm", kind, 32) for kind in ("short", "long"))
    yield Job("run minilm short, all layers", 50, partial(whole_run, "minilm", "short", 2048, 2, False))
    yield Job("run bert-base long, two layers, five epochs", 60, partial(whole_run, "bert-base", "long", 512, 5, True))
    yield Job("features", 40, partial(features, 100_000))
    yield Job("launches minilm short 32", 10, partial(launches, "minilm", "short", 32))
    yield from (of_steps("bert-base", kind, 32) for kind in ("short", "long"))
    yield from (of_steps("minilm", kind, rows) for rows in (8, 128) for kind in ("short", "long"))
    yield from (of_steps(shape, "short", 32) for shape in ("xlm-r-base", "modernbert-base"))
    yield of_steps("decoder-1b", "short", 8)
    yield from (of_steps(shape, "long", 32) for shape in ("modernbert-base", "xlm-r-base"))
    yield of_steps("minilm", "short", 32, compiled=True)
    yield of_steps("decoder-1b", "long", 8)
    yield from (of_steps("bert-base", kind, rows) for rows in (8, 128) for kind in ("short", "long"))
    yield Job("launches bert-base long 32", 15, partial(launches, "bert-base", "long", 32))
    others = ("modernbert-base", "xlm-r-base")
    yield from (of_steps(shape, kind, rows) for rows in (8, 128) for kind in ("short", "long") for shape in others)
    yield of_steps("decoder-1b", "short", 32)


def main() -> None:
    """Take the cases until the time is spent."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    on_card = choose_device().type == "cuda"
    if not on_card and not given.quick:
        sys.stderr.write("gpu: skipped; it needs a GPU (--quick tries the program out on the processor)\n")
        return
    end = time.monotonic() + 60 * given.minutes
    done: list[dict[str, Any]] = []
    left_out: list[str] = []
    for job in jobs():
        start = time.monotonic()
        if not given.quick and start + job.seconds > end:
            left_out.append(job.name)
            continue
        try:
            figures = job.measure(Size(given.quick))
        except Exception as error:  # the others are still worth having
            if given.quick:
                raise
            figures = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        done.append({"case": job.name, **figures, "took_seconds": round(time.monotonic() - start, 1)})
        if "tflops_a_second" in figures and "tflops_a_second" in done[0]:  # the first case is the matrix rate
            done[-1]["share_of_matrix_rate"] = round(figures["tflops_a_second"] / done[0]["tflops_a_second"], 3)
        sys.stdout.write(json.dumps(done[-1]) + "\n")
        sys.stdout.flush()
        if not given.quick:  # after each case: a run that is cut short has its figures
            later = [one.name for one in jobs() if one.name not in {case["case"] for case in done} | set(left_out)]
            card = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
            write_result("gpu", {"card": card, "cases": done, "left_out": left_out + later})


if __name__ == "__main__":
    main()
