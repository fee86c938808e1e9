"""Run the code of docs/geometry.md from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "geometry.md"


def test_the_pages_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        exec(block, names)
    assert len(names["probe"].history["rho"]) == 3
    assert (tmp_path / "probe.jsonl").exists()
    assert names["whole"].batches == names["named"].batches == 3
    assert float(names["named"].rho) == float(names["whole"].rho)
