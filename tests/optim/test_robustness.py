"""Every row of the robustness table on every optimizer; the page shows what comes out."""

from __future__ import annotations

import pytest
from tests import robustness
from tests.relatives import RELATIVES
from tests.robustness import ROWS


@pytest.mark.parametrize("optimizer", RELATIVES)
@pytest.mark.parametrize("row", ROWS)
def test_what_breaks_others(row: str, optimizer: str):
    assert ROWS[row].check(RELATIVES[optimizer]) == ROWS[row].right


def test_the_page_shows_the_table():
    page = robustness.PAGE.read_text(encoding="utf-8")
    assert all(f"| {name} | {row.right} |" in page for name, row in ROWS.items())
