import io

from rich.console import Console

from corridor.train.sweep import overview as module
from corridor.train.sweep.overview import Bars, Lines, Nothing, Tally, bars, overview


def clocked(monkeypatch, seconds):
    monkeypatch.setattr(module, "perf_counter", lambda: seconds[0])
    return seconds


def test_the_time_left_follows_from_the_work_done_since_the_start(monkeypatch):
    now = clocked(monkeypatch, [0.0])
    tally = Tally(["a", "b", "c"], done=1)
    assert tally.seconds_left() is None
    tally.update(0, 0.5)  # goes on from a checkpoint: that half was made before
    now[0] = 10.0
    assert tally.seconds_left() is None
    tally.update(0, 0.75)
    tally.update(1, 0.0)
    tally.update(1, 0.25)
    assert tally.seconds_left() == 10.0 / 0.5 * 2.0
    assert tally.line() == "1 of 4 ended, 2 running, 50% done, 40 s left"
    tally.end(0)
    assert tally.running == [1]
    assert tally.line().startswith("2 of 4 ended, 1 running, 56% done")


def test_off_a_terminal_there_is_a_line_a_run_and_one_a_minute(monkeypatch, capsys):
    now = clocked(monkeypatch, [0.0])
    lines = Lines(Tally(["a", "b"], done=3))
    lines.update(0, 0.0)
    now[0] = 30.0
    lines.update(0, 0.25)
    assert capsys.readouterr().err == ""
    now[0] = 61.0
    lines.update(0, 0.5)
    lines.update(0, 0.5)
    assert capsys.readouterr().err == "3 of 5 ended, 1 running, 70% done, 3 min 3 s left\n"
    lines.ended(0, "a: finished")
    assert capsys.readouterr().err == "[4/5] a: finished (1 min 1 s left)\n"
    lines.ended(1, "b: finished")
    assert capsys.readouterr().err == "[5/5] b: finished\n"


def test_without_an_estimate_no_time_is_told(capsys):
    lines = Lines(Tally(["a", "b"], done=0))
    lines.update(0, 1.0)  # had made all of its steps before
    lines.ended(0, "a: finished")
    assert capsys.readouterr().err == "[1/2] a: finished\n"


def test_on_a_terminal_there_is_a_bar_for_all_and_one_for_each_that_runs():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=90, color_system=None)
    bar = bars(console)
    shown = Bars(Tally(["first", "second"], done=2), bar)
    shown.update(0, 0.25)
    shown.update(1, 0.5)
    assert [task.description for task in bar.tasks] == ["all runs", "first", "second"]
    assert bar.tasks[0].completed == 2.75
    with bar:
        shown.ended(0, "first: finished")
    assert [task.description for task in bar.tasks] == ["all runs", "second"]
    text = screen.getvalue()
    assert "first: finished" in text
    assert "3/4" in text


def test_silence_is_silent(capsys):
    with overview(["a"], 0, progress=False) as show:
        show.update(0, 0.5)
        show.ended(0, "a")
    assert isinstance(show, Nothing)
    assert capsys.readouterr() == ("", "")
