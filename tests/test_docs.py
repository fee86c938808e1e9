"""The README's code runs, the pages' links lead somewhere, the tests they name exist."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_readmes_code_learns():
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert code is not None
    names: dict = {}
    exec(code[1], names)
    assert names["loss"].item() < 0.5


def test_the_examples_of_new_parts_run():
    ran = doctest.testfile(str(ROOT / "docs" / "architecture.md"), module_relative=False)
    assert ran.attempted > 20
    assert ran.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path):
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    local = [link for link in links if "://" not in link]
    missing = [link for link in local if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_tests_named_on_a_page_exist(page: Path):
    named = set(re.findall(r"`(test_\w+)`", page.read_text()))
    code = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert not [name for name in sorted(named) if f"def {name}(" not in code]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_named_on_a_page_exist(page: Path):
    rooms = r"`(?:python )?((?:benchmarks|tests|docs|src)/[\w/.*-]+)"
    named = re.findall(rooms, page.read_text())
    assert not [name for name in named if not any(ROOT.glob(name))]
