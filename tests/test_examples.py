from __future__ import annotations

import runpy
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
