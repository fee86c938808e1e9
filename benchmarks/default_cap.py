"""Which finite cap should CLR have by default? Caps against problems, with and without momentum.

    CORRIDOR_DATA=<folder with cifar10/*.parquet> python benchmarks/default_cap.py --out runs/cap

Runs resume; the table and ``results/default_cap_*.json`` are made from what is there.
"""

from __future__ import annotations

import argparse
import math
import statistics
from itertools import product
from pathlib import Path

from common import write_results

from corridor.train.config import Config
from corridor.train.folder.record import read_run
from corridor.train.sweep.runs import Run, sweep

CAPS = (0.3, 1.0, 3.0, 10.0, math.inf)
MOMENTA = (0.0, 0.9)
SEEDS = (0, 1)
CIFAR = {"data": "cifar10", "image_size": 16, "train_limit": 5000}
PROBLEMS = {
    "digits MLP, B 16": {"model": "mlp", "batch_size": 16, "steps": 800},
    "digits MLP, B 128": {"model": "mlp", "batch_size": 128, "steps": 220},
    "digits MLP, full batch": {"model": "mlp", "batch_size": 1437, "steps": 120},
    "digits CNN, B 16": {"model": "cnn", "width": 16, "batch_size": 16, "steps": 800},
    "digits CNN, B 128": {"model": "cnn", "width": 16, "batch_size": 128, "steps": 220},
    "digits CNN, full batch": {"model": "cnn", "width": 16, "batch_size": 1437, "steps": 80},
    "CIFAR ResNet-8, B 64": {**CIFAR, "model": "resnet8", "batch_size": 64, "steps": 400},
    "CIFAR ResNet-8, B 512": {**CIFAR, "model": "resnet8", "batch_size": 512, "steps": 160},
    "CIFAR CNN, B 128": {**CIFAR, "model": "cnn", "batch_size": 128, "steps": 300},
}


def runs() -> dict[tuple[str, float, float, int], Run]:
    """One run for each problem, momentum, cap and seed."""
    table = {}
    for problem, momentum, cap, seed in product(PROBLEMS, MOMENTA, CAPS, SEEDS):
        config = Config(
            **PROBLEMS[problem],
            optimizer="clr",
            lr=cap,
            momentum=momentum,
            seed=seed,
            eval_every=0,
            checkpoint_every=10**6,
        )
        name = f"{problem} momentum {momentum} cap {cap} seed {seed}"
        table[problem, momentum, cap, seed] = Run(name.replace(" ", "_").replace(",", ""), config)
    return table


def last_loss(path: Path) -> float:
    """Mean batch loss over the last tenth of a run; inf where it did not end."""
    record = read_run(path)
    if record.summary is None or record.summary["status"] != "finished":
        return math.inf
    losses = [line["loss"] for line in record.steps]
    return statistics.fmean(losses[-max(1, len(losses) // 10) :])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/cap"))
    out = parser.parse_args().out
    table = runs()
    sweep(list(table.values()), out)
    rows = []
    for problem, momentum in product(PROBLEMS, MOMENTA):
        losses = {
            cap: statistics.fmean(
                last_loss(out / table[problem, momentum, cap, s].name) for s in SEEDS
            )
            for cap in CAPS
        }
        named = {f"{cap:g}": losses[cap] for cap in CAPS}
        rows.append({"problem": problem, "momentum": momentum, "loss": named})
        cells = "  ".join(f"{losses[cap]:9.2g}" for cap in CAPS)
        print(f"{problem:24s} momentum {momentum:3.1f}  {cells}")
    write_results("default_cap", {"caps": list(CAPS), "seeds": len(SEEDS), "rows": rows})


if __name__ == "__main__":
    main()
