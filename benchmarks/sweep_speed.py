"""Wall time of a sweep of 16 small runs: one after the other, in the local pool, and on Ray.

    python benchmarks/sweep_speed.py [--rounds 3] [--steps 100 400] [--ray]

Every way starts in a fresh process and is timed from its start to its end, imports included.
``serial`` calls `train` in a loop; ``pool 1`` and ``pool 2`` are `sweep` with so many processes.
Wall time, since that is what a sweep is to save: leave the machine alone meanwhile. CPU time of
all processes beside it: two processes that do w times the work of one can be 2 / w as fast. Ray's
workers are not this program's children, so theirs is not known.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable

from common import write_results

RUNS = 16
PROGRAM = """
import sys
from corridor.train.sweep.grid import grid
steps, way, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
if __name__ == "__main__":
    options = {"model": "cnn", "width": 16, "batch_size": 128, "steps": steps, "eval_every": 0,
               "checkpoint_every": 10**6, "seed": list(range(16))}
    runs = grid(options)
    if way == "serial":
        import torch
        from corridor.train.loop import train
        torch.set_num_threads(1)
        for run in runs:
            train(run.config, out + "/" + run.name, progress=False)
    else:
        from corridor.train.sweep.runs import sweep
        from corridor.train.sweep import Workers
        if way.startswith("pool"):
            workers = Workers(processes=int(way[5:]))
        elif way == "ray":
            workers = Workers(pool="ray", address="local")
        else:
            workers = Workers(pool=way)
        sweep(runs, out, processes=workers, progress=False)
"""


def seconds(steps: int, way: str) -> tuple[float, float]:
    """Wall time of one sweep, and CPU time of all its processes."""
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/program.py"
        with open(program, "w") as file:
            file.write(PROGRAM)
        command = [sys.executable, program, str(steps), way, f"{folder}/out"]
        begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return time.perf_counter() - begin, cpu


def middle(ratios: Iterable[float]) -> float:
    return round(statistics.median(ratios), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 400])
    parser.add_argument("--ray", action="store_true")
    options = parser.parse_args()
    ways = ["serial", "pool 1", "pool 2", *(["ray"] if options.ray else [])]
    shuffler = random.Random(0)
    rows = []
    for steps in options.steps:
        taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way in shuffler.sample(ways, len(ways)):
                taken[way].append(seconds(steps, way))
        base = taken["serial"]
        for way in ways:
            pairs = list(zip(base, taken[way], strict=True))
            row = {
                "runs": RUNS,
                "steps": steps,
                "way": way,
                "wall_seconds": [round(wall, 2) for wall, _ in taken[way]],
                "times_as_fast_as_serial": middle(a[0] / b[0] for a, b in pairs),
            }
            told = f"{steps} steps, {way:7s} {row['times_as_fast_as_serial']:.2f} x as fast"
            if way != "ray":
                row["cpu_seconds"] = [round(cpu, 2) for _, cpu in taken[way]]
                row["cpu_of_serial"] = middle(b[1] / a[1] for a, b in pairs)
                told += f", {row['cpu_of_serial']:.2f} x the work"
            rows.append(row)
            print(told, flush=True)
    write_results("sweep_speed", {"rounds": options.rounds, "rows": rows})


if __name__ == "__main__":
    main()
