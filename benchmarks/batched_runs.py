"""Many runs of one small network as one batched program, against the same runs one by one.

    python benchmarks/batched_runs.py [--rounds 5] [--device cpu]

Half of the runs are CLR, half SGD at rates of their own, each with its own seed. Both ways train
the same configs in this process with one thread and write the same folders; process CPU time of
the whole call, in random order within a round (wall time on a GPU).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from common import interleave, paired_ratio, write_results

from corridor.train.config import Config
from corridor.train.loop import train
from corridor.train.sweep.batched import train_batched

CASES = {
    "digits MLP, width 32, batch 32": {"model": "mlp", "width": 32, "batch_size": 32},
    "digits MLP, width 256, batch 128": {"model": "mlp", "width": 256, "batch_size": 128},
    "digits CNN, width 4, batch 32": {"model": "cnn", "width": 4, "batch_size": 32},
    "digits CNN, width 16, batch 128": {"model": "cnn", "width": 16, "batch_size": 128},
}


def configs(case: dict, runs: int, steps: int, device: str) -> list[Config]:
    common = {"data": "digits", "steps": steps, "eval_every": 0, "device": device, **case}
    rules = [{"optimizer": "clr"}, {"optimizer": "sgd", "lr": 0.05}]
    return [
        Config(**common, **rules[seed % 2], seed=seed, checkpoint_every=10**6)
        for seed in range(runs)
    ]


def one_by_one(chosen: list[Config]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for index, config in enumerate(chosen):
            train(config, Path(folder) / str(index), progress=False)


def together(chosen: list[Config]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        train_batched(chosen, [Path(folder) / str(index) for index in range(len(chosen))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--runs", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.device != "cpu":
        time.process_time = time.perf_counter
    rows = []
    for name, case in CASES.items():
        for runs in options.runs:
            chosen = configs(case, runs, options.steps, options.device)
            calls = {
                "separate": lambda c=chosen: one_by_one(c),
                "batched": lambda c=chosen: together(c),
            }
            seconds = interleave(calls, options.rounds, warmup=1)
            ratio = paired_ratio(seconds["separate"], seconds["batched"])
            rows.append({"case": name, "runs": runs, "steps": options.steps, **ratio})
            print(
                f"{name:34s} {runs:3d} runs: batched is {ratio['ratio']:.2f} x as fast", flush=True
            )
    write_results("batched_runs", {"rounds": options.rounds, "rows": rows})


if __name__ == "__main__":
    main()
