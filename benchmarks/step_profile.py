"""Where the time of a training step with the engine goes, operator by operator.

    python benchmarks/step_profile.py --data train.csv [--text COLUMN] [--label COLUMN]

Every operator that runs in a step (forward and backward pass, clipping, optimizer) is timed where it is called; what is
left of the step is time between operators: Python, autograd and the drawing of random numbers. Timing each call makes
the step itself slower, so the plain step is measured in turn with the timed one, and the shares are of the timed one.
The matrix products are also set against the machine's rate on one large product, since small ones cannot reach it.
The result goes to ``results/step_profile.json``.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

from _labelled import Texts, given_texts
from _results import write_result
from engine import Case, long_texts, make_model, matrix_rate, random_batches, stepper, tokens_of
from torch.utils._python_dispatch import TorchDispatchMode

from tunesmith.commandline import keep_freed_memory
from tunesmith.engine import Engine

CASES = (Case("short", 8), Case("short", 32), Case("long", 32))
KINDS = {
    "matrix products": ("mm", "addmm", "bmm", "baddbmm", "linear"),
    "casts between float32 and bfloat16": ("_to_copy",),
    "softmax": ("_softmax", "_softmax_backward_data"),
    "layer norm": ("native_layer_norm", "native_layer_norm_backward"),
    "activation": ("gelu", "gelu_backward", "tanh", "tanh_backward"),
    "moving tokens in and out of blocks and batches": ("index_select", "index_copy", "index_copy_", "copy_", "clone"),
    "embedding": ("embedding", "embedding_dense_backward"),
    "optimizer and clipping": ("_fused_adamw_", "_foreach_norm", "_foreach_mul_", "linalg_vector_norm"),
    "sums and products of elements (residuals, dropout, biases)": ("add", "add_", "mul", "mul_", "sum", "ge"),
}


class Timer(TorchDispatchMode):
    """Adds up the seconds of each operator, and the operations of its matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls = self.products = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        start = time.perf_counter()
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        self.seconds[name] += time.perf_counter() - start
        self.calls += 1
        if name in KINDS["matrix products"]:
            left = args[1] if name in ("addmm", "baddbmm") else args[0]
            self.products += 2 * left.shape[-1] * out.numel()
        return out


def measure(case: Case, data: Texts) -> dict[str, Any]:
    """Milliseconds of the median step, plain and timed, and the shares of the kinds of operators in all timed steps."""
    batches = random_batches(data, case.rows, case.length)
    model = make_model(case, len(data.labels))
    engine = Engine(model, token_ids=tokens_of(batches))
    step = stepper(model, True, engine)
    for batch in batches[:2]:
        step(batch)
    seconds: dict[str, list[float]] = {"plain": [], "timed": []}
    timer, rates = Timer(), []
    for batch in batches:
        for name, mode in (("plain", nullcontext()), ("timed", timer)):
            start = time.perf_counter()
            with mode:
                step(batch)
            seconds[name].append(time.perf_counter() - start)
        rates.append(matrix_rate())
    engine.detach()
    return asdict(case) | _figures(timer, seconds, statistics.median(rates))


def _figures(timer: Timer, seconds: dict[str, list[float]], rate: float) -> dict[str, Any]:
    total, found = sum(seconds["timed"]), sum(timer.seconds.values())
    kinds = {kind: sum(timer.seconds[name] for name in names) for kind, names in KINDS.items()}
    kinds["other operators"] = found - sum(kinds.values())
    kinds["between operators"] = total - found
    products = kinds["matrix products"]
    return {
        "plain_step_ms": round(1e3 * statistics.median(seconds["plain"]), 1),
        "timed_step_ms": round(1e3 * statistics.median(seconds["timed"]), 1),
        "operators_a_step": timer.calls // len(seconds["timed"]),
        "share_of_timed_step": {kind: round(value / total, 3) for kind, value in kinds.items()},
        "matrix_rate_gflops": round(rate / 1e9),
        "products_share_of_matrix_rate": round(timer.products / products / rate, 3),
    }


def main() -> None:
    """Profile every case on the given data."""
    short = given_texts("step_profile", __doc__.splitlines()[0])
    if short is None:
        return
    keep_freed_memory()  # as the commands do
    sets = {"short": short, "long": long_texts()}
    cases = [measure(case, sets[case.texts]) for case in CASES]
    write_result("step_profile", {"data": short.name, "cases": cases})


if __name__ == "__main__":
    main()
