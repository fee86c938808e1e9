"""Run the development half: train what is missing, one JSON line per run.

python -m benchmarks.practice.run --out runs/practice --processes 2
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.practice import entrant as entrants
from benchmarks.practice import plan, problem, records, trial
from benchmarks.practice.entrant import Entrant
from benchmarks.practice.records import Key

from corridor.train.folder.record import git_commit

OUT = Path("runs/practice")
# torch imports the first at an optimizer's first use, which takes longer than to fork a process.
PRELOADED = ["torch._dynamo", "benchmarks.practice.parts", "benchmarks.practice.trial"]
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass
class Queue:
    """The runs that are left, most important first.

    Attributes:
        half: half of the problems.
        problems: names of the problems.
        entrants: who takes part.
        seeds: all seeds; the first one is that of the sweeps.
        scale: factor on the number of steps.
        losses: final losses of the runs that have ended.
    """

    half: str
    problems: Sequence[str]
    entrants: Sequence[Entrant]
    seeds: Sequence[int]
    scale: int
    losses: dict[Key, float]
    heap: list[tuple[Any, Key]] = field(default_factory=list)
    known: set[Key] = field(default_factory=set)

    def __post_init__(self) -> None:
        for name, one in itertools.product(self.problems, self.entrants):
            self._add(one, plan.first_runs(self.half, name, one, self.seeds, self.scale))
        self.refill()

    def refill(self) -> None:
        """Add the runs that the ended ones ask for."""
        for one in self.entrants:
            parts = (self.half, self.problems, one, self.losses, self.seeds, self.scale)
            self._add(one, plan.further_runs(*parts))

    def pop(self) -> Key | None:
        """Return the next run, or None while all known runs are taken."""
        return heapq.heappop(self.heap)[1] if self.heap else None

    def ended(self, record: dict[str, Any]) -> None:
        """Note the end of a run."""
        self.losses[records.key_of(record)] = plan.final(record)
        self.refill()

    def _add(self, entrant: Entrant, keys: Sequence[Key]) -> None:
        for key in keys:
            if key not in self.known and key not in self.losses:
                place = self.problems.index(key.problem)
                order = (*plan.priority(entrant, key, place), len(self.known))
                heapq.heappush(self.heap, (order, key))
            self.known.add(key)


def work(queue: Queue, processes: int) -> Iterator[tuple[Key, dict[str, Any] | Exception]]:
    """Train the runs of a queue, each in a process of its own with one thread.

    Yields:
        The key of each run as it ends, with its record or the error of the problem.
    """
    os.environ.update(ONE_THREAD)
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    running: dict[Future[dict[str, Any]], Key] = {}
    with ProcessPoolExecutor(processes, context, max_tasks_per_child=1) as pool:
        while True:
            while len(running) < processes and (key := queue.pop()) is not None:
                running[pool.submit(trial.run, key)] = key
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                key = running.pop(future)
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    raise error
                if error is None:
                    queue.ended(future.result())
                yield key, error if isinstance(error, Exception) else future.result()


def run_all(queue: Queue, path: Path, processes: int) -> int:
    """Train what is missing, write each record as its run ends, and show the progress.

    Returns:
        The number of runs whose problem raised an exception.
    """
    from rich import progress as bars

    text = bars.TextColumn("{task.description}")
    columns = (bars.BarColumn(), bars.MofNCompleteColumn(), bars.TimeElapsedColumn(), text)
    commit, errors, begin = git_commit(), 0, time.monotonic()
    with bars.Progress(*columns, refresh_per_second=1) as progress:
        bar = progress.add_task("", total=len(queue.heap))
        for done, (key, found) in enumerate(work(queue, processes), start=1):
            if isinstance(found, dict):
                records.append(path, {**found, "source": records.source(key), "commit": commit})
                words = found["failure"] or f"{found['losses'][-1]:.4g}"
            else:
                errors += 1
                words = f"the problem raised {type(found).__name__}: {found}"
            left = expected(queue) * (time.monotonic() - begin) / done
            rate = "" if key.rate is None else f" {key.rate:.2g}"
            name = f"{key.problem}, {key.entrant}{rate}, seed {key.seed}"
            progress.console.print(f"{name}: {words}", highlight=False, markup=False)
            words = f"about {left / 60:.0f} min left"
            progress.update(bar, completed=done, total=done + expected(queue), description=words)
    return errors


def expected(queue: Queue) -> int:
    """Return the number of runs left, with those that sweeps will still ask for."""
    asked = {(key.problem, key.entrant) for key in queue.known if key.seed != queue.seeds[0]}
    later = 0
    for one in queue.entrants:
        rates = 0 if one.rates is None else 1 if one.choice == "one" else min(3, len(one.rates))
        waiting = sum((name, one.name) not in asked for name in queue.problems)
        later += rates * waiting * (len(queue.seeds) - 1)
    return len(queue.heap) + later


def chosen(options: argparse.Namespace, half: str, families: Sequence[str] = ()) -> Queue:
    """Return the queue that the options ask for.

    Args:
        options: as `parser` reads them.
        half: half of the problems.
        families: families that take part where the options name no entrant; empty for all
            (default: empty).
    """
    names, scale = options.problems or problem.names(half), options.scale_steps
    loaded = {name: problem.load(half, name) for name in names}
    if scale > 1 and not options.problems:
        names = [name for name in names if loaded[name].long]
    picked = [entrants.load(name) for name in options.entrants or entrants.names()]
    if families and not options.entrants:
        picked = [one for one in picked if one.family in families]
    picked = [narrowed(plan.settled(one, half, scale), options.rates) for one in picked]
    for one in picked:
        if one.package:
            entrants.rival(one.package, "__name__")
    losses = known(options.out / f"{half}.jsonl", options.stale)
    return Queue(half, names, picked, options.seeds, scale, losses)


def known(path: Path, again: bool) -> dict[Key, float]:
    """Return the final losses of the runs that a file has.

    Args:
        path: file of the records.
        again: True if the records of older problems and entrants do not count.
    """
    records.mend(path)
    found = records.read(path)
    old = {records.key_of(record) for record in records.stale(found)}
    if old:
        told = "they run again" if again else "add --stale to run them again"
        print(f"{len(old)} records are of an older problem or entrant; {told}")
    return {key: loss for key, loss in plan.finals(found).items() if not (again and key in old)}


def narrowed(entrant: Entrant, rates: Sequence[float] | None) -> Entrant:
    """Return an entrant with some of its rates only."""
    if not rates or entrant.rates is None:
        return entrant
    kept = tuple(r for r in entrant.rates if any(abs(r - want) <= 1e-6 * want for want in rates))
    if not kept:
        known = ", ".join(f"{rate:g}" for rate in entrant.rates)
        raise SystemExit(f"rates must be among those of {entrant.name} ({known}), got {rates}")
    return replace(entrant, rates=kept)


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return the options of both runners."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    made.add_argument("--out", type=Path, default=OUT, help="folder of the records")
    made.add_argument("--entrants", nargs="*", help="names of entrants (default: all)")
    made.add_argument("--problems", nargs="*", help="names of problems (default: all)")
    made.add_argument("--seeds", nargs="+", type=int, default=list(plan.SEEDS))
    made.add_argument("--rates", nargs="*", type=float, help="rates of the swept entrants")
    made.add_argument("--scale-steps", type=int, default=1, help="factor on the number of steps")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    made.add_argument("--processes", type=int, default=cores, help="runs at the same time")
    made.add_argument("--stale", action="store_true", help="run again what has changed")
    return made


def main() -> None:
    options = parser(__doc__).parse_args()
    queue = chosen(options, "development")
    errors = run_all(queue, options.out / "development.jsonl", options.processes)
    raise SystemExit(1 if errors else 0)


if __name__ == "__main__":
    main()
