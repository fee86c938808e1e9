from __future__ import annotations

import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
# What an example needs beside torch; without it the example is skipped.
NEEDS = {
    "accelerate_loop": ("accelerate",),
    "fabric": ("lightning",),
    "hf_trainer": ("transformers", "accelerate"),
    "lightning_trainer": ("lightning",),
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples_are_short_and_learn(path: Path):
    assert len(path.read_text().splitlines()) <= 60
    for module in NEEDS.get(path.stem, ()):
        pytest.importorskip(module, reason=f"{module} is not installed")
    assert runpy.run_path(str(path))["main"]() < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["", "sharded"])
def test_the_example_of_several_processes_runs_under_torchrun(mode: str):
    path = next(path for path in EXAMPLES if path.stem == "several_processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command = [*run, "--master-addr", "127.0.0.1", "--master-port", port]
    done = subprocess.run(
        [*command, str(path), *filter(None, [mode])],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
        check=True,
    )
    losses = [float(line) for line in done.stdout.split()]
    assert len(losses) == 2
    assert max(losses) < 0.05
