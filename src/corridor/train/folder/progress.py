"""Show progress on stderr: bars on a terminal, lines of text elsewhere."""

import sys
from collections.abc import Callable, Sequence
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
        wide = console.width >= WIDE
        self._bar = rich.Progress(
            *([rich.TextColumn("{task.description}")] if wide else []),
            rich.BarColumn(bar_width=None),
            rich.MofNCompleteColumn(),
            rich.TextColumn("[dim]loss[/] {task.fields[loss]}"),
            rich.TextColumn("[dim]step size[/] {task.fields[lr]}"),
            *([rich.TextColumn("{task.fields[speed]}")] if wide else []),
            rich.TimeRemainingColumn(compact=True),
            console=console,
            expand=True,
        )

    def start(self, title: str, done: int, total: int) -> None:
        """Draw the bar."""
        self._task = self._bar.add_task(
            title, total=total, completed=done, loss="-", lr="-", speed=""
        )
        self._bar.start()

    def update(self, step: int, loss: float, effective_lr: float, speed: float) -> None:
        """Move the bar."""
        self._bar.update(
            self._task,
            completed=step,
            loss=f"{loss:.3g}",
            lr=f"{effective_lr:.2g}",
            speed=f"{speed:,.0f} img/s",
        )

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.stop()


class Lines(Reporter):
    """Show one run as lines of text, at ends of epochs ten seconds apart and at the last one."""

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

    def __init__(
        self,
        names: Sequence[str],
        done: int,
        console: Console,
        *,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._names, self._done, self._console, self._clock = names, done, console, clock
        self._fractions: dict[int, float] = {}
        self._each: dict[int, rich.TaskID] = {}
        self._over: set[int] = set()
        self.bars = rich.Progress(
            rich.TextColumn("{task.description}", markup=False),
            rich.BarColumn(bar_width=None),
            rich.TextColumn("{task.fields[note]}"),
            rich.TimeRemainingColumn(),
            console=console,
            expand=True,
            get_time=clock,
            speed_estimate_period=RECENT_SECONDS,
        )
        total = done + len(names)
        self._all = self.bars.add_task("all runs", total=total, completed=done, note="")
        self._last = clock()
        self.bars.advance(self._all, 0.0)  # the estimate of the speed begins here

    def __enter__(self) -> Self:
        """Draw the bars on a terminal."""
        if self._console.is_terminal:
            self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the bars as they are."""
        if self._console.is_terminal:
            self.bars.stop()

    def update(self, index: int, fraction: float) -> None:
        """Show that a fraction of a run is done."""
        if index in self._over:
            return
        if index not in self._fractions:
            # A resumed run made this part before: it must not count as speed.
            self.bars.tasks[0].completed += fraction
            self._fractions[index] = fraction
        self.bars.advance(self._all, fraction - self._fractions[index])
        self._fractions[index] = fraction
        if index not in self._each and len(self._each) < BARS:
            self._each[index] = self.bars.add_task(self._names[index], total=1.0, note="")
        if index in self._each:
            self.bars.update(self._each[index], completed=fraction, note=f"{fraction:.0%}")
        if not self._console.is_terminal and self._clock() - self._last > LINE_SECONDS:
            running = len(self._fractions) - len(self._over)
            share = self.bars.tasks[0].percentage
            self._write(f"{self._count()} ended, {running} running, {share:.0f}% done", ", ", "")

    def ended(self, index: int, line: str) -> None:
        """Show that a run has ended, with a line that says how."""
        self.bars.advance(self._all, 1.0 - self._fractions.get(index, 0.0))
        self._fractions[index] = 1.0
        self._over.add(index)
        if index in self._each:
            self.bars.remove_task(self._each.pop(index))
        self.bars.update(self._all, note=self._count())
        self._write(f"[{self._count()}] {line}", " (", ")")

    def _count(self) -> str:
        return f"{self._done + len(self._over)}/{self._done + len(self._names)}"

    def _write(self, line: str, opening: str, closing: str) -> None:
        seconds = self.bars.tasks[0].time_remaining
        left = f"{opening}{timedelta(seconds=seconds)} left{closing}" if seconds else ""
        self._console.print(f"{line}{left}", markup=False, highlight=False, soft_wrap=True)
        self._last = self._clock()
