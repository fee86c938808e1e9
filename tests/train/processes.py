"""Real processes, to be killed or to be read."""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

from corridor.train.config import Config

ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """That of this process, with the tests importable and one thread."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def corridor(*arguments, **options) -> subprocess.CompletedProcess[str]:
    """Run ``python -m corridor`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "corridor", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**environment(), **options.pop("env", {})},
        timeout=120,
        check=False,
        **options,
    )


def start_training(config: Config, out: Path):
    """Start ``train``, resuming, in a process that has torch imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["corridor.train.loop", "sklearn.datasets"])
    arguments = (json.dumps(config.to_dict()), str(out))
    process = context.Process(target=_train, args=arguments)
    process.start()
    return process


def _train(config: str, out: str) -> None:
    import torch

    from corridor.train.loop import train

    torch.set_num_threads(1)
    train(Config.from_dict(json.loads(config)), out, resume=True, progress=False)
