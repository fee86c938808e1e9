"""The tables of time to target stand in the pages as the kept results say."""

import pytest
from benchmarks.time_to_target import pages


@pytest.mark.parametrize(("page", "half", "problems"), pages.PLACES)
def test_tables_are_those_of_the_results(page, half, problems):
    text = page.read_text(encoding="utf-8")
    assert pages.filled(text, half, pages.table(pages.newest(half), problems)) == text


def test_a_failure_is_a_dash_and_rows_go_by_their_share():
    found = {
        "steps": {"A": {"p": None, "q": 30.0}, pages.TUNED_SGD: {"p": 10.0, "q": 20.0}},
        "within_2_steps": {"A": 0.5, pages.TUNED_SGD: 1.0},
        "within_2_seconds": {"A": 0.0, pages.TUNED_SGD: 1.0},
    }
    rows = pages.table(found).splitlines()
    assert rows[2].startswith(f"| {pages.TUNED_SGD} | 100% | 100% | 0 | 1.00 [1.00, 1.00]")
    assert rows[3] == "| A | 50% | 0% | 1 | – [1.50, –] | – | 30 |"


def test_a_page_without_marks_is_refused():
    with pytest.raises(ValueError, match="once each"):
        pages.filled("no marks", "choice", "")
