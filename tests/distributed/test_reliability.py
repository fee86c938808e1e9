"""Every row of the table of faults; the page shows what comes of it."""

from __future__ import annotations

import sys

import pytest
from tests import reliability
from tests.distributed.ranks import Ranks
from tests.reliability import ROWS, Bench

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="ranks are found by /proc, which is Linux's"
)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if row.slow else []) for n, row in ROWS.items()],
)
def test_a_fault_has_its_one_outcome(ranks: Ranks, tmp_path, name: str):
    assert ROWS[name].check(Bench(ranks, tmp_path)) == ROWS[name].right


def test_the_page_shows_the_table():
    page = reliability.PAGE.read_text(encoding="utf-8")
    assert reliability.table(lambda name: ROWS[name].right) in page
