"""Show progress on stderr: bars on a terminal, lines of text elsewhere."""

import sys
from collections.abc import Sequence
from datetime import timedelta
from time import perf_counter
from typing import Self

from rich import progress as rich
from rich.console import Console

# A terminal of fewer columns has no room for the title and the speed.
WIDE = 80
# A sweep with more runs in progress shows no further bars.
BARS = 8
LINE_SECONDS = 10.0
# The time left of a sweep follows from this many recent seconds: its runs differ in length.
RECENT_SECONDS = 600.0


class Reporter:
    """Receive the progress of one run; this class shows nothing."""

    def start(self, title: str, done: int, total: int) -> None:
        """Begin to show a run of `total` steps, of which `done` are made already."""

    def update(self, step: int, loss: float, effective_lr: float, speed: float) -> None:
        """Show the newest numbers; `speed` is in training images per second."""

    def epoch(self, epoch: int, accuracy: float | None) -> None:
        """Show the end of an epoch; the accuracy is between 0 and 1, or None without a test."""

    def close(self) -> None:
        """End the display."""


class Bar(Reporter):
    """Show one run as a progress bar."""

    def __init__(self, console: Console) -> None:
        self._wide = console.width >= WIDE
        self._bar = rich.Progress(
            rich.TextColumn("{task.description}"),
            rich.BarColumn(bar_width=None),
            rich.MofNCompleteColumn(),
            rich.TextColumn("{task.fields[numbers]}"),
            rich.TimeRemainingColumn(compact=True),
            console=console,
            expand=True,
        )

    def start(self, title: str, done: int, total: int) -> None:
        """Draw the bar."""
        shown = title if self._wide else ""
        self._task = self._bar.add_task(shown, total=total, completed=done, numbers="")
        self._bar.start()

    def update(self, step: int, loss: float, effective_lr: float, speed: float) -> None:
        """Move the bar."""
        numbers = f"[dim]loss[/] {loss:.3g} [dim]step size[/] {effective_lr:.2g}"
        numbers += f" {speed:,.0f} img/s" if self._wide else ""
        self._bar.update(self._task, completed=step, numbers=numbers)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.stop()


class Lines(Reporter):
    """Show one run as lines of text, at ends of epochs ten seconds apart and at the last end."""

    def start(self, title: str, done: int, total: int) -> None:
        """Write the title."""
        self._total, self._values, self._waiting = total, "", ""
        begin = f", from step {done:,}" if done else ""
        self._write(f"{title}: {total:,} steps{begin}")

    def update(self, step: int, loss: float, effective_lr: float, speed: float) -> None:
        """Keep the numbers for the next line."""
        self._values = (
            f"step {step}/{self._total}, loss {loss:.4g}, step size {effective_lr:.3g}, "
            f"{speed:,.0f} images/s"
        )

    def epoch(self, epoch: int, accuracy: float | None) -> None:
        """Write the line if it is time."""
        test = "" if accuracy is None else f", test accuracy {accuracy:.2%}"
        self._waiting = f"epoch {epoch}: {self._values}{test}"
        if perf_counter() - self._last > LINE_SECONDS:
            self._write(self._waiting)

    def close(self) -> None:
        """Write the line of the last epoch."""
        self._write(self._waiting)

    def _write(self, line: str) -> None:
        self._waiting, self._last = "", perf_counter()
        if line:
            print(line, file=sys.stderr, flush=True)


def reporter(progress: bool | Reporter) -> Reporter:
    """Return the reporter for True (a bar or lines), for False (no display) or for itself."""
    if not isinstance(progress, bool):
        return progress
    if not progress:
        return Reporter()
    console = Console(stderr=True)
    return Bar(console) if console.is_terminal else Lines()


class Overview:
    """Show the runs of a sweep: a bar for all, a bar for each in progress, a line for each end."""

    def __init__(self, names: Sequence[str], done: int, console: Console) -> None:
        self._done, self._console = done, console
        self.bars = rich.Progress(
            rich.TextColumn("{task.description}", markup=False),
            rich.BarColumn(bar_width=None),
            rich.TextColumn("{task.fields[note]}"),
            rich.TimeRemainingColumn(),
            console=console,
            expand=True,
            speed_estimate_period=RECENT_SECONDS,
            disable=not console.is_terminal,
        )
        self._all = self.bars.add_task("all runs", total=done + len(names), completed=done, note="")
        self.bars.advance(self._all, 0.0)  # the estimate of the speed begins here
        for name in names:  # not started before the first news
            self.bars.add_task(name, total=1.0, start=False, visible=False, note="", over=False)
        self._last = console.get_time()

    def __enter__(self) -> Self:
        """Draw the bars on a terminal."""
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the bars as they are."""
        self.bars.stop()

    def update(self, index: int, fraction: float) -> None:
        """Show the fraction of a run that is done."""
        total, *runs = self.bars.tasks
        run = runs[index]
        if run.fields["over"]:
            return
        if run.started:
            self.bars.advance(self._all, fraction - run.completed)
        else:  # a resumed run made this part before: it must not count as speed
            total.completed += fraction
            self.bars.start_task(run.id)
        shown = run.visible or sum(other.visible for other in runs) < BARS
        self.bars.update(run.id, completed=fraction, note=f"{fraction:.0%}", visible=shown)
        if not self._console.is_terminal and self._console.get_time() - self._last > LINE_SECONDS:
            running = sum(run.started and not run.fields["over"] for run in runs)
            line = f"{self._count()} ended, {running} running, {total.percentage:.0f}% done"
            self._write(line, ", ", "")

    def ended(self, index: int, line: str) -> None:
        """Show that a run has ended, with a line that states how."""
        run = self.bars.tasks[1 + index]
        self.bars.advance(self._all, 1.0 - run.completed)
        self.bars.update(run.id, visible=False, over=True)
        self.bars.update(self._all, note=self._count())
        self._write(f"[{self._count()}] {line}", " (", ")")

    def _count(self) -> str:
        total, *runs = self.bars.tasks
        return f"{self._done + sum(run.fields['over'] for run in runs)}/{total.total:g}"

    def _write(self, line: str, opening: str, closing: str) -> None:
        seconds = self.bars.tasks[0].time_remaining
        left = f"{opening}{timedelta(seconds=seconds)} left{closing}" if seconds else ""
        self._console.print(f"{line}{left}", markup=False, highlight=False, soft_wrap=True)
        self._last = self._console.get_time()
