"""How well corridor numbers rank what a step does: Spearman, along real runs of the paper's CLR.

    python benchmarks/rank_correlations.py

Digits, 120 steps without a cap, each measured on its own batch before and after it: rho_parallel
against the loss left over, E_1 / E_0, and 2 rho against ||g_1 - g_0|| / ||g_0||; beside them the
secant's rho_parallel, and the shares of steps that raised the loss and that had rho_parallel > 1.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from typing import Any

import torch
from common import write_results

from corridor.paper.figures.fig07_geometry import gradient_correlation, probed, rank_correlation
from corridor.train.config import Config
from corridor.train.folder.record import read_run
from corridor.train.loop import train

SETTINGS = [
    {"model": model, "batch_size": batch_size, "width": width}
    for model, width in (("mlp", None), ("cnn", 16))
    for batch_size in (1437, 256)
]


def row(**setting: Any) -> dict[str, Any]:
    config = Config(lr=math.inf, steps=120, probe=1, eval_every=0, **setting)
    with tempfile.TemporaryDirectory() as folder:
        train(config, f"{folder}/run", progress=False)
        lines = probed(read_run(f"{folder}/run"))
    left = [line["secant_loss_ratio"] for line in lines]
    found = {
        "loss left by rho_parallel": rank_correlation([v["rho_parallel"] for v in lines], left),
        "by the secant's": rank_correlation([v["secant_rho_parallel"] for v in lines], left),
        "gradient change by 2 rho": gradient_correlation(lines),
        "rising": statistics.fmean(ratio > 1 for ratio in left),
        "rho_parallel > 1": statistics.fmean(line["rho_parallel"] > 1 for line in lines),
    }
    print(setting["model"], setting["batch_size"], {k: round(v, 3) for k, v in found.items()})
    return {**setting, **found}


def main() -> None:
    torch.set_num_threads(1)
    write_results("rank_correlations", {"rows": [row(**setting) for setting in SETTINGS]})


if __name__ == "__main__":
    main()
