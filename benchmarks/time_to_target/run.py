"""Train every optimizer on every problem, in processes, and keep what each run gave.

python -m benchmarks.time_to_target.run --half development --out runs/target
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections import deque
from itertools import product
from pathlib import Path
from typing import Any

import torch
from benchmarks.time_to_target import optimizers, problems
from benchmarks.time_to_target.optimizers import CHOICES, OPTIMIZERS
from benchmarks.time_to_target.problems import PROBLEMS, Problem
from torch import nn

from corridor.train.folder.files import write_json
from corridor.train.sweep.pool import run_jobs

SEEDS = (0, 1)
TARGETS = Path(__file__).parent / "targets.json"


def train(problem: str, optimizer: str, seed: int, target: float | None) -> dict[str, Any]:
    """One run, ended at the target, at a loss that is not finite, or after the steps allowed.

    Returns:
        steps to the target (None if not reached), CPU seconds, the smoothed losses thinned, the
        test accuracy at the end where there is one.
    """
    torch.set_num_threads(1)
    what, entry = PROBLEMS[problem], {**OPTIMIZERS, **CHOICES}[optimizer]
    torch.manual_seed(seed)
    model = what.model()
    opt = entry.make(list(model.parameters()))
    optimizers.start(opt)
    recent: deque[float] = deque(maxlen=what.window)
    curve, reached, begin = [], None, time.process_time()
    for step, (x, y) in zip(range(1, what.steps + 1), what.batches(seed), strict=False):
        opt.zero_grad()
        loss = what.loss(model(x), y)
        recent.append(loss.item())
        smooth = sum(recent) / len(recent)
        curve.append(smooth)
        if not math.isfinite(smooth):
            break
        if target is not None and len(recent) == what.window and smooth <= target:
            reached = step
            break
        optimizers.take_step(entry, opt, loss)
    seconds = time.process_time() - begin
    optimizers.finish(opt)
    thin = max(1, len(curve) // 100)
    return {
        "problem": problem,
        "optimizer": optimizer,
        "seed": seed,
        "reached": reached,
        "steps": len(curve),
        "seconds": round(seconds, 3),
        "lowest": min((v for v in curve if math.isfinite(v)), default=math.inf),
        "test_accuracy": accuracy(model, what),
        "losses": [float(f"{v:.4g}") for v in curve[::thin]],
    }


@torch.no_grad()
def accuracy(model: nn.Module, problem: Problem) -> float | None:
    """Share of the test set that is classified rightly; None without a test set."""
    if len(problem.examples()) < 4:
        return None
    x, y = problem.examples()[2:]
    model.eval()
    right = [
        (model(a).argmax(1) == b).float() for a, b in zip(x.split(500), y.split(500), strict=False)
    ]
    model.train()
    return float(torch.cat(right).mean())


def path_of(out: Path, problem: str, optimizer: str, seed: int) -> Path:
    """Where a run's result lies."""
    words = f"{problem}--{optimizer}--{seed}".replace(" ", "_").replace(",", "")
    return out / f"{words}.json"


def work(job: tuple[str, str, int, float | None, str], report: Any = None) -> None:
    """One job of the pool: train and write."""
    problem, optimizer, seed, target, path = job
    write_json(Path(path), train(problem, optimizer, seed, target))


def run_all(
    names: list[str], which: list[str], out: Path, targets: dict[str, float] | None
) -> None:
    """Run what is missing, one process a core."""
    out.mkdir(parents=True, exist_ok=True)
    jobs = [
        (p, o, s, None if targets is None else targets[p], str(path_of(out, p, o, s)))
        for p, o, s in product(names, which, SEEDS)
        if not path_of(out, p, o, s).exists()
    ]
    begin = time.monotonic()
    ends = run_jobs(work, jobs, processes=len(os.sched_getaffinity(0)))
    for done, (index, error) in enumerate(ends, start=1):
        left = (time.monotonic() - begin) / done * (len(jobs) - done)
        told = f"{done} of {len(jobs)}, {left / 60:.0f} min left: {jobs[index][:3]}"
        print(told, error, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    halves = ("development", "held-out", "choice")
    parser.add_argument("--half", choices=halves, default="development")
    parser.add_argument("--out", type=Path, default=Path("runs/target"))
    parser.add_argument("--only", nargs="*", help="optimizers; all of them by default")
    options = parser.parse_args()
    targets = json.loads(TARGETS.read_text(encoding="utf-8"))
    usual = [*CHOICES, "CLR-Adam"] if options.half == "choice" else list(OPTIMIZERS)
    run_all(problems.of(options.half), options.only or usual, options.out, targets)


if __name__ == "__main__":
    main()
