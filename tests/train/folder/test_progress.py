import io
import re

import pytest
from rich.console import Console

from corridor.train.folder import progress as module
from corridor.train.folder.progress import Bar, Lines, Overview, Reporter, reporter


def screen(width=90):
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)


def paper(clock=None):
    return Console(file=io.StringIO(), force_terminal=False, width=30, get_time=clock)


@pytest.mark.parametrize("width", [80, 60])
def test_the_bar_fits_one_line_and_shows_steps_loss_and_step_size(width):
    console = screen(width)
    bar = Bar(console)
    bar.start("digits cnn clr", done=0, total=330)
    bar.update(220, loss=0.0123456, effective_lr=0.5, speed=12345.6)
    bar.close()
    last = [line for line in console.file.getvalue().splitlines() if "loss" in line][-1]
    assert "220/330" in last
    assert "0.0123" in last
    assert "0.5" in last
    assert ("12,346 img/s" in last) == (width >= 80)


def test_a_run_is_reported_by_a_bar_lines_nothing_or_what_is_given():
    assert type(reporter(progress=False)) is Reporter
    assert isinstance(reporter(progress=True), Bar | Lines)
    own = Reporter()
    assert reporter(own) is own


def test_off_a_terminal_a_run_writes_a_line_per_ten_seconds_and_its_last_epoch(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(module, "perf_counter", lambda: now[0])
    lines = Lines()
    lines.start("digits cnn clr", done=0, total=30)
    for epoch, second in enumerate((4.0, 11.0, 12.0), start=1):
        now[0] = second
        lines.update(10 * epoch, loss=1.0 / epoch, effective_lr=0.5, speed=1234.0)
        lines.epoch(epoch, 0.25 * epoch)
    lines.close()
    lines.close()
    assert capsys.readouterr().err.splitlines() == [
        "digits cnn clr: 30 steps",
        "epoch 2: step 20/30, loss 0.5, step size 0.5, 1,234 images/s, test accuracy 50.00%",
        "epoch 3: step 30/30, loss 0.3333, step size 0.5, 1,234 images/s, test accuracy 75.00%",
    ]


def test_off_a_terminal_a_sweep_writes_each_end_and_a_line_per_ten_seconds():
    now = [0.0]
    console = paper(lambda: now[0])

    def said():
        text = console.file.getvalue()
        console.file.seek(0)
        console.file.truncate()
        return text

    with Overview(["a", "b", "c"], 1, console) as show:
        show.update(0, 0.5)  # made before, from a checkpoint
        now[0] = 9.0
        show.update(0, 0.5)
        assert said() == ""
        now[0] = 10.0
        show.update(0, 0.75)
        show.update(1, 0.0)
        now[0] = 11.0
        show.update(1, 0.25)
        # Half a run in 11 seconds; two of four are left.
        assert said() == "1/4 ended, 2 running, 50% done, 0:00:44 left\n"
        show.update(0, 0.8)
        assert said() == ""
        show.ended(0, "a: finished")
        assert re.fullmatch(r"\[2/4\] a: finished \(0:00:\d\d left\)\n", said())
        show.update(0, 0.9)  # late news
        show.ended(1, "b: failed: [red] is not a color")
        show.ended(2, "c: finished")
        assert said().splitlines()[-1] == "[4/4] c: finished"


def shown(show):
    return [task.description for task in show.bars.tasks if task.visible]


def test_on_a_terminal_there_is_a_bar_for_all_and_one_for_each_that_runs():
    console = screen()
    with Overview(["first", "second"], 2, console) as show:
        show.update(0, 0.25)
        show.update(1, 0.5)
        assert shown(show) == ["all runs", "first", "second"]
        assert show.bars.tasks[0].completed == 2.75
        show.ended(0, "first: finished")
        assert shown(show) == ["all runs", "second"]
    text = console.file.getvalue()
    assert "[3/4] first: finished" in text


def test_a_quiet_console_shows_nothing(capsys):
    with Overview(["a"], 0, Console(stderr=True, quiet=True)) as show:
        show.update(0, 0.5)
        show.ended(0, "a")
    assert capsys.readouterr() == ("", "")
