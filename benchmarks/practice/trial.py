"""One run: train a problem by an entrant, and measure at a quarter, at half and at the end."""

from __future__ import annotations

import math
import random
import resource
import sys
import time
from collections import deque
from typing import Any

import torch
from benchmarks.practice import entrant as entrants
from benchmarks.practice import problem as problems
from benchmarks.practice.entrant import Entrant, Made, OptimizerError
from benchmarks.practice.problem import Problem, Task
from benchmarks.practice.records import Key
from torch import nn

MARKS = (0.25, 0.5, 1.0)  # shares of the steps at which a run is measured
PATIENCE = 20  # losses in a row that are not finite end a run
BATCHES = 20  # number of last batches that batch normalization is measured on again


def run(key: Key) -> dict[str, Any]:
    """Train one run and return its record. This process has one thread from now on.

    Args:
        key: names the run.
    """
    torch.set_num_threads(1)
    problem, entrant = problems.load(key.half, key.problem), entrants.load(key.entrant)
    return {**key._asdict(), **train(problem, entrant, key)}


def train(problem: Problem, entrant: Entrant, key: Key) -> dict[str, Any]:
    """Return what a run measures.

    Returns:
        ``steps`` (done), ``start`` (validation loss before the first step), ``losses`` and
        ``accuracies`` at the marks, ``seconds`` of processor time for the training alone,
        ``peak_mb`` of the process, and ``failure``, empty for a run that did not fail.
    """
    steps = problem.steps * key.scale
    seed(key.seed)
    task = problem.make(key.seed)
    made = entrant.make(task.model, steps, key.rate, problem.f_star)
    seed(key.seed)
    found: dict[str, Any] = {"start": task.validate(task.model)["loss"], "failure": ""}
    found |= {"losses": [], "accuracies": [], "steps": 0, "seconds": 0.0}
    entrants.begin(made)
    recent: deque[Any] = deque(maxlen=BATCHES)
    for mark in MARKS:
        part = round(mark * steps) - found["steps"]
        begin = time.process_time()
        done, found["failure"] = take_steps(task, entrant, made, part, recent)
        found["seconds"] = round(found["seconds"] + time.process_time() - begin, 3)
        found["steps"] += done
        if found["failure"]:
            break
        measured = validate(task, made, list(recent))
        found["losses"].append(finite(measured["loss"]))
        found["accuracies"].append(finite(measured.get("accuracy")))
    found["failure"] = found["failure"] or verdict(found)
    found["peak_mb"] = round(peak_mb(), 1)
    return found


def take_steps(
    task: Task, entrant: Entrant, made: Made, steps: int, recent: deque[Any]
) -> tuple[int, str]:
    """Take some steps.

    Returns:
        The number of steps, and why they ended early; empty if they did not.
    """
    bad = 0
    task.model.train()
    for done in range(steps):
        batch = next(task.batches)
        recent.append(batch)
        made[0].zero_grad()
        with entrants.kernels(entrant):
            loss = task.loss(task.model, batch)
        bad = 0 if math.isfinite(loss.item()) else bad + 1
        if bad == PATIENCE:
            return done, "the loss is not finite"
        try:
            entrants.take_step(entrant, made, loss)
        except OptimizerError as error:
            return done, f"the optimizer raised {error}"[:300]
    return steps, ""


def validate(task: Task, made: Made, recent: list[Any]) -> dict[str, float]:
    """Return the validation of the weights that a user would keep.

    An average gets batch statistics of its own, from the last batches, as the authors of
    schedule-free advise. Training goes on as if there had been no validation.
    """
    mode = task.model.training
    with torch.random.fork_rng(devices=[]), entrants.averaged(made) as is_average:
        kept = [b.clone() for b in task.model.buffers()]
        if is_average:
            measure_batch_norm(task, recent)
        found = task.validate(task.model)
        for buffer, old in zip(task.model.buffers(), kept, strict=True):
            buffer.copy_(old)
    task.model.train(mode)
    return found


@torch.no_grad()
def measure_batch_norm(task: Task, batches: list[Any]) -> None:
    """Set the statistics of batch normalization to their mean over some batches."""
    norms = [m for m in task.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    if not norms:
        return
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    task.model.train()
    for batch in batches:
        task.loss(task.model, batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def verdict(found: dict[str, Any]) -> str:
    """Return why a whole run failed; empty if it did not."""
    end = found["losses"][-1]
    if end is None:
        return "the validation loss is not finite"
    return "no better than at the start" if end >= found["start"] else ""


def finite(value: float | None) -> float | None:
    """Return a value that JSON can hold: None if it is not finite."""
    return None if value is None or not math.isfinite(value) else float(value)


def seed(number: int) -> None:
    """Seed all global generators."""
    torch.manual_seed(number)
    random.seed(number)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(number)


def peak_mb() -> float:
    """Return the peak of this process's resident memory in megabytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
