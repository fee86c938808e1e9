"""What all benchmarks share: interleaved timing, and results written with their environment."""

from __future__ import annotations

import gc
import random
import re
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from corridor.train.folder.files import write_json
from corridor.train.folder.record import environment

RESULTS = Path(__file__).parent / "results"


def interleave(
    calls: Mapping[str, Callable[[], Any]], rounds: int, warmup: int = 3
) -> dict[str, list[float]]:
    """Seconds of CPU time of each call in each round, the order drawn anew every round.

    CPU time, since other work on the machine would otherwise be counted; with one thread it is the
    time a call takes.
    """
    order = list(calls)
    shuffler = random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    gc.collect()
    gc.disable()
    try:
        for index in range(warmup + rounds):
            shuffler.shuffle(order)
            for name in order:
                begin = time.process_time()
                calls[name]()
                if index >= warmup:
                    seconds[name].append(time.process_time() - begin)
    finally:
        gc.enable()
    return seconds


def paired_ratio(of: list[float], to: list[float]) -> dict[str, float]:
    """Median and quartiles of the ratios round by round."""
    low, mid, high = statistics.quantiles([a / b for a, b in zip(of, to, strict=True)], n=4)
    return {
        "ratio": round(mid, 3),
        "lower_quartile": round(low, 3),
        "upper_quartile": round(high, 3),
    }


def write_results(theme: str, results: dict[str, Any]) -> Path:
    """Write ``results/<theme>_<hardware>_<date>.json`` with the environment beside the numbers."""
    where = environment()
    # The folder of the runs is that of one machine.
    where["command"] = [Path(a).name if Path(a).is_absolute() else a for a in where["command"]]
    processor = re.sub(r"[^a-z0-9]+", "-", str(where.get("processor", "cpu")).lower()).strip("-")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{theme}_{processor}_{date.today().isoformat()}.json"
    write_json(path, {"environment": where, **results})
    print(f"written: {path.relative_to(RESULTS.parent.parent)}")
    return path
