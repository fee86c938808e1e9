import io

import pytest
from rich.console import Console

from corridor.train.folder.progress import Bar, Lines, Silent, reporter


@pytest.mark.parametrize("width", [120, 80, 60])
def test_the_bar_fits_one_line_and_shows_steps_loss_and_step_size(width):
    screen = io.StringIO()
    bar = Bar(Console(file=screen, force_terminal=True, width=width, color_system=None))
    bar.start("digits cnn clr", done=0, total=330)
    bar.update(220, loss=0.0123456, effective_lr=0.5, speed=12345.6)
    bar.close()
    last = [line for line in screen.getvalue().splitlines() if "loss" in line][-1]
    assert "220/330" in last
    assert "0.0123" in last
    assert "0.5" in last
    assert ("12,346 img/s" in last) == (width >= 80)


def test_a_run_is_reported_by_a_bar_lines_nothing_or_what_is_given():
    assert type(reporter(progress=False)) is Silent
    assert isinstance(reporter(progress=True), Bar | Lines)
    own = Silent()
    assert reporter(own) is own
