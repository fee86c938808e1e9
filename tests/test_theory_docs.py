"""Test that every example on the theory pages runs and returns what the page shows."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[1] / "docs").glob("theory-*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_pages_examples_run(page: Path):
    failures, tried = doctest.testfile(str(page), module_relative=False)
    assert tried > 0
    assert failures == 0


def test_there_is_a_page_for_every_part():
    assert len(PAGES) == 6
    assert all("Beyond the paper" in page.read_text() for page in PAGES)
