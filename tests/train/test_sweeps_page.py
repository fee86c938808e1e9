"""The table of faults names tests; they are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_cell_names_a_test_that_exists():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "sweeps.md").read_text()))
    source = "".join(p.read_text() for p in Path(__file__).parent.glob("test_*.py"))
    assert len(named) > 12
    assert not [name for name in named if f"def {name}(" not in source]
