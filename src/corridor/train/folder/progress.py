"""How a run shows itself: a bar on a terminal, a line per epoch elsewhere, or not at all."""

import sys
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

# Narrower terminals show no title and no speed.
WIDE = 80


class Reporter(Protocol):
    """What the training loop tells while it runs."""

    def start(self, title: str, done: int, total: int) -> None:
        """The run begins, or goes on, at ``done`` of ``total`` steps."""

    def update(self, step: int, loss: float, effective_lr: float, speed: float) -> None:
        """So many steps are made; ``speed`` in images per second."""

    def epoch(self, epoch: int, accuracy: float | None) -> None:
        """So many epochs are made; the test accuracy, if it was measured."""

    def close(self) -> None:
        """The run has ended, one way or another."""


class Silent:
    """Shows nothing."""

    def start(self, title: str, done: int, total: int) -> None:
        """Nothing."""

    def update(self, step: int, loss: float, effective_lr: float, speed: float) -> None:
        """Nothing."""

    def epoch(self, epoch: int, accuracy: float | None) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Bar(Silent):
    """A progress bar on a terminal."""

    def __init__(self, console: Console) -> None:
        title = [TextColumn("{task.description}")] if console.width >= WIDE else []
        speed = [TextColumn("{task.fields[speed]}")] if console.width >= WIDE else []
        self._bar = Progress(
            *title,
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("[dim]loss[/] {task.fields[loss]}"),
            TextColumn("[dim]step size[/] {task.fields[lr]}"),
            *speed,
            TimeRemainingColumn(compact=True),
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
        """Leave the bar as it stands."""
        self._bar.stop()


class Lines(Silent):
    """A line per epoch, for logs."""

    def start(self, title: str, done: int, total: int) -> None:
        """Say what is run."""
        self._total, self._values = total, ""
        begin = f", from step {done:,}" if done else ""
        print(f"{title}: {total:,} steps{begin}", file=sys.stderr, flush=True)

    def update(self, step: int, loss: float, effective_lr: float, speed: float) -> None:
        """Remember the numbers for the next line."""
        self._values = (
            f"step {step}/{self._total}, loss {loss:.4g}, step size {effective_lr:.3g}, "
            f"{speed:,.0f} images/s"
        )

    def epoch(self, epoch: int, accuracy: float | None) -> None:
        """Write the line."""
        test = "" if accuracy is None else f", test accuracy {accuracy:.2%}"
        print(f"epoch {epoch}: {self._values}{test}", file=sys.stderr, flush=True)


def reporter(progress: bool | Reporter) -> Reporter:
    """The reporter for a yes or no, or the given one."""
    if not isinstance(progress, bool):
        return progress
    if not progress:
        return Silent()
    console = Console(stderr=True)
    return Bar(console) if console.is_terminal else Lines()
