"""The sources stay within their limits: see CONTRIBUTING.md."""

from tests.house import SOURCES, measure_house, repeated


def test_the_sources_stay_small():
    house = measure_house()
    assert len(house.files) <= 150
    assert house.lines <= 20_000
    assert max(house.files.values()) <= 400
    assert 110 <= house.median_file <= 200
    assert house.median_function <= 10


def test_comments_give_reasons_now_and_then():
    assert 1.5 <= measure_house().comments_per_100 <= 3.0


def test_no_passage_stands_in_two_places():
    assert repeated() == []


def test_a_passage_with_other_names_is_seen(tmp_path):
    lines = [f"    x{i} = f(a{i}) + {i}" for i in range(8)]
    (tmp_path / "one.py").write_text("def f(a):\n" + "\n".join(lines) + "\n")
    other = [line.replace("x", "other").replace("f(", "g(") for line in lines]
    (tmp_path / "two.py").write_text("def h(b):\n" + "\n".join(other) + "\n")
    assert repeated(tmp_path) == ["one.py:1 ~ two.py:1"]
    (tmp_path / "two.py").write_text("def h(b):\n" + "\n".join(other[:6]) + "\n    return b\n")
    assert repeated(tmp_path) == []


def test_the_sources_are_those_of_the_package():
    assert (SOURCES / "__init__.py").exists()
