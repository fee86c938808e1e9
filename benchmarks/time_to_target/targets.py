"""Set the targets from the runs of tuned SGD alone: ``targets.json``.

python -m benchmarks.time_to_target.targets --out runs/target-sgd
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from benchmarks.time_to_target.optimizers import TUNED
from benchmarks.time_to_target.problems import PROBLEMS
from benchmarks.time_to_target.run import SEEDS, TARGETS, path_of, run_all
from torch.nn.functional import cross_entropy, mse_loss

from corridor.train.folder.files import write_json

SLACK = {"development": 1.3, "held-out": 1.3, "choice": 1.1}
# Below these a run is in the tail, where digits of the loss are bought and nothing is learnt.
FLOORS = {cross_entropy: 0.01, mse_loss: 1e-4}


def target(problem: str, out: Path) -> float:
    """The best rate's lowest loss in half of the steps allowed, mean of the seeds, and some more.

    Times 1.3, on choice problems 1.1; at least the floor of its kind of loss.
    """
    best = []
    for optimizer in TUNED:
        lowest = []
        for seed in SEEDS:
            run = json.loads(path_of(out, problem, optimizer, seed).read_text(encoding="utf-8"))
            whole = run["steps"] == PROBLEMS[problem].steps
            lowest.append(min(run["losses"][: len(run["losses"]) // 2]) if whole else float("inf"))
        best.append(statistics.fmean(lowest))
    what = PROBLEMS[problem]
    return max(float(f"{SLACK[what.half] * min(best):.3g}"), FLOORS[what.loss])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/target-sgd"))
    out = parser.parse_args().out
    run_all(list(PROBLEMS), list(TUNED), out, None)
    write_json(TARGETS, {name: target(name, out) for name in PROBLEMS})


if __name__ == "__main__":
    main()
