"""Run the training loop: step, fetch metrics, evaluate, save and stop at the right times."""

import math
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from corridor.data.rng import derive
from corridor.train.config import Config
from corridor.train.folder import checkpoint, record, storage
from corridor.train.folder.files import HELD_SECONDS, locked
from corridor.train.folder.progress import Reporter, reporter
from corridor.train.folder.record import Summary
from corridor.train.processes import Interrupted, StopFlag, generators, listening, restarted
from corridor.train.processes.team import Team, joined
from corridor.train.task import Task
from corridor.train.trainer import Trainer

# Metrics are fetched from the device after this number of steps or seconds, whichever is first.
FLUSH_STEPS = 100
FLUSH_SECONDS = 0.5
# An optimizer that skips steps may recover; after this number in a row the run ends.
PATIENCE = 20

BY_HOST = ("data_dir", "workers")


def train(
    config: Config,
    out: str | Path,
    *,
    resume: bool = False,
    progress: bool | Reporter = True,
    task: Task | None = None,
) -> Summary:
    """Train a network and write the run to a folder.

    On a CPU, equal configs and numbers of threads give equal numbers, bit for bit. This holds too
    if the run is stopped, or killed, and resumed. In processes started by torchrun, or in an
    initialized process group, each process calls this function: they share every batch, and rank 0
    writes.

    Args:
        config: What to train and how.
        out: The run folder. It must be empty or absent unless ``resume`` is True.
        resume: True to continue the run in ``out`` from its newest checkpoint, or to start a run if
            there is none (default: False). A run that has ended is not trained again. ``steps``, or
            ``epochs`` without ``steps``, may be larger if the schedule is constant. The number of
            processes and options that change no number (``data_dir``, ``workers``,
            ``checkpoint_every``, ``keep``, ``tensorboard``, ``probe``, ``parallel``, ``timeout``)
            may differ; all others must be equal. A process restarted by torchrun always resumes.
        progress: True to show progress on stderr, or a reporter (default: True).
        task: Network, data and loss of your own, in place of the ``data`` and ``model`` of the
            config (default: None).

    Returns:
        The content of summary.json.

    Raises:
        ValueError: If the config is impossible, or the folder holds something else.
        OSError: If data cannot be read or the folder cannot be written.
        ConnectionError: If another process was lost; the message names it.
        ElsewhereError: If another process failed and raises its own error.
        Interrupted: After SIGINT or SIGTERM, when the current step is done and saved.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> config = Config(data="digits", model="mlp", batch_size=256, steps=2)
        >>> train(config, folder, progress=False).steps
        2
    """
    config = config if task is None else task.config(config)
    out = Path(out)
    with joined(config.device, config.timeout) as team, ExitStack() as stack:
        options = config.to_dict().items()
        team.require_equal({f"--{k.replace('_', '-')}": v for k, v in options if k not in BY_HOST})
        # A process that has just joined was not restarted.
        resume = team.largest(resume or restarted()) > [0]
        look = partial(team.of_first, lambda: record.open_folder(out, config, resume=resume))
        if (ended := look()) is not None:
            return ended
        held = locked(out, wait=HELD_SECONDS) if team.first else nullcontext()
        stack.enter_context(generators.kept(team.device))
        team.together(lambda: stack.enter_context(held))
        if (ended := look()) is not None:  # another process may have had the lock since
            return ended
        generators.seed(config.seed)
        trainer = Trainer(config, team.device, team, task)
        flag = stack.enter_context(listening())
        show = reporter(progress if team.first else False)
        try:
            return Loop(trainer, out, show, flag, resume=resume).run()
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise OSError(
                "a process that decodes images was killed, possibly out of memory; use fewer "
                "--workers, and go on with --resume"
            ) from error


class DivergedError(Exception):
    """Report that the run has diverged; the message states why."""


class Loop:
    """Train one run from its current position to its end."""

    def __init__(
        self, trainer: Trainer, out: Path, show: Reporter, flag: StopFlag, *, resume: bool
    ) -> None:
        self.trainer, self.out, self.show, self.flag = trainer, out, show, flag
        self.config, self.team = trainer.config, trainer.team
        self.position = checkpoint.Position()
        self.pending: list[dict[str, Any]] = []
        like = trainer.like()
        self.team.together(lambda: storage.replaced(like, storage.loadable))
        saved = checkpoint.load(out, self.team, like) if resume else None
        if saved is not None:
            trainer.load_state_dict(saved.states)
            self.position = saved.position
            seed = derive(self.config.seed, self.position.step)
            checkpoint.restore_random(saved.random, self.team, seed)
        if self.position.step > trainer.total:
            raise ValueError(
                f"steps must be at least the {self.position.step} steps that the run in {out} has "
                f"made already, got {trainer.total}"
            )
        skipped = int(trainer.optimizer.param_groups[0].get("skipped", 0))
        self.watch = Watch(trainer.takes_loss, skipped, self.position.skips_in_row)
        self.saver = checkpoint.Saver(out, self.team, self.config.keep)
        make = partial(record.Recorder, out, self.config, self.position.step)
        self.recorder = self.team.together(lambda: make() if self.team.first else None)

    def run(self) -> Summary:
        """Train until the end, or until the run diverges or a signal comes."""
        config, message = self.config, ""
        title = f"{config.data} {config.model} {config.optimizer}"
        self.show.start(title, self.position.step, self.trainer.total)
        self.rhythm = Rhythm(self.team, self.position.step)
        # The training time of earlier processes counts as if this one had started before.
        self.started = perf_counter() - self.position.seconds
        try:
            try:
                self._steps()
            except DivergedError as error:
                message = str(error)
            self.saver.wait()
            if not message and not self.trainer.finite():
                message = "the parameters are not finite"
            return self.team.of_first(lambda: self._summarize(message))
        finally:
            self.show.close()
            if self.recorder:
                self.recorder.close()

    def _steps(self) -> None:
        """Make the steps that are left, after an evaluation that the last process did not reach."""
        if self.position.step and self._due():
            found = self.team.of_first(lambda: record.read_run(self.out).evaluations)
            if all(line["step"] != self.position.step for line in found):
                with self._untimed():
                    self._evaluate()
        while self.position.step < self.trainer.total:
            before, start = self.position.step, self.position.batch
            for images, labels in self.trainer.loader.train(self.position.epoch, start=start):
                self._step(images, labels)
                self._after_step()
                if self.position.step == self.trainer.total:
                    return
            if self.position.step == before:
                raise RuntimeError(f"the loader of {self.trainer.title} gave no batch")

    def _step(self, images: Tensor, labels: Tensor) -> None:
        position = self.position
        # A batch of one process is whole.
        count = len(labels) if self.team.world == 1 else self.trainer.loader.size(position.batch)
        self.team.doing = f"step {position.step + 1}"
        with self._untimed():
            geometry = self.trainer.measure(images, labels, position.step, count)
        numbers = self.trainer.step(images, labels, count)
        position.step += 1
        position.images += count
        position.seconds = perf_counter() - self.started
        where = {"step": position.step, "epoch": position.epoch}
        self.pending.append({**where, **numbers, "seconds": round(position.seconds, 6), **geometry})
        position.batch += 1
        if position.batch == self.trainer.loader.steps_per_epoch:
            position.epoch, position.batch = position.epoch + 1, 0

    def _after_step(self) -> None:
        config, position = self.config, self.position
        # Read once: the step that stops the run must also save it.
        stop, late = self.rhythm.after(position.step, self.flag.number)
        last, epoch_ended = position.step == self.trainer.total, position.batch == 0
        evaluate, every = self._due(), config.checkpoint_every
        save = last or stop > 0 or (position.step % every == 0 if every else epoch_ended)
        if evaluate or save or late or len(self.pending) >= FLUSH_STEPS:
            self._flush()
        if evaluate or save or epoch_ended:
            with self._untimed():
                if save:
                    # No checkpoint may be ahead of its metrics.
                    self.team.together(lambda: self.recorder and self.recorder.sync())
                    self.saver.save(position, self.trainer.state_dict())
                if evaluate and save:
                    self.saver.wait()  # an evaluation that fails must not cost the steps
                accuracy = self._evaluate() if evaluate else None
                if epoch_ended:
                    self.show.epoch(position.epoch, accuracy)
        if stop and not last:
            self.saver.wait()
            place = f"step {position.step} of {self.trainer.total}, saved in {self.out}"
            raise Interrupted(f"stopped at {place}; go on with --resume", stop)

    def _due(self) -> bool:
        """Return True if the run is evaluated at its position."""
        position, every = self.position, self.config.eval_every
        ended = every > 0 and position.batch == 0 and position.epoch % every == 0
        return ended or position.step == self.trainer.total

    def _flush(self) -> None:
        """Write the pending steps; raise DivergedError if the run diverged at one of them."""
        lines, self.pending = self.pending, []
        fetch(lines, self.team)
        self.rhythm.fetched = perf_counter()
        bad = self.watch.diverged(lines)
        self.position.skips_in_row = self.watch.in_row
        if bad is not None:  # the number of later lines depends on the time of this call
            lines = lines[: bad + 1]
            self.position.step = lines[-1]["step"]
        if self.recorder:
            self.recorder.write(lines)
        largest, f_star = max(line["loss"] for line in lines), self.config.f_star
        if self.team.first and lines[0]["step"] == 1 and largest < f_star:
            warnings.warn(
                f"f_star {f_star:g} is above all of the first losses (largest {largest:.4g}), "
                "where the step size is 0; give the minimum of the loss",
                stacklevel=2,
            )
        speed = self.position.images / max(self.position.seconds, 1e-9)
        last = lines[-1]
        self.show.update(self.position.step, last["loss"], last["effective_lr"], speed)
        if bad is not None:
            what = "too many skipped steps in a row" if self.watch.skips else "not finite"
            raise DivergedError(f"loss or gradient: {what} at step {self.position.step}")

    @contextmanager
    def _untimed(self) -> Iterator[None]:
        """Leave the time of the block out of the training time."""
        begin = perf_counter()
        yield
        self.started += perf_counter() - begin

    def _evaluate(self) -> float | None:
        """Evaluate, write the line, and return the accuracy; None without one."""
        position, found = self.position, self.trainer.evaluate()
        if self.recorder and found:
            seconds = round(position.seconds, 6)
            line = {"step": position.step, "epoch": position.epoch, **found, "seconds": seconds}
            self.recorder.write([line])
        return found.get("test_accuracy")

    def _summarize(self, message: str) -> Summary:
        """Write and return the summary, from the metrics on the disk."""
        trainer, position, run = self.trainer, self.position, record.read_run(self.out)
        losses = [line["loss"] for line in run.steps]
        epoch, f_star = losses[-trainer.loader.steps_per_epoch :], self.config.f_star
        whole = [line["step"] for line in run.steps] == list(range(1, position.step + 1))
        below = [loss for loss in losses if loss < f_star]
        status = "diverged" if message else "finished"
        if not whole:
            lost = f"metrics.jsonl has {len(losses)} lines of {position.step} steps"
            message = "; ".join(filter(None, (message, lost)))
        elif below and not message:
            message = (
                f"f_star {f_star:g} is above the loss of {len(below)} of {len(losses)} steps, "
                f"where the step size is 0; give a smaller f_star, at most {min(below):.4g}"
            )
        summary = replace(
            record.summarized(run.steps, run.evaluations),
            status=status,
            seconds=round(position.seconds, 6),
            images_per_second=position.images / max(position.seconds, 1e-9),
            steps=position.step,
            final_loss=sum(epoch) / len(epoch) if whole else None,
            parameters=sum(p.numel() for p in trainer.parameters),
            data=trainer.title,
            images=trainer.images,
            classes=trainer.classes,
            message=message,
        )
        record.write_summary(self.out, summary)
        return summary


class Rhythm:
    """Decide at which steps ranks write and stop, so that all do it at the same steps."""

    def __init__(self, team: Team, step: int) -> None:
        self.team, self.last, self.next = team, step, step + 1
        self.looked = self.fetched = perf_counter()

    def after(self, step: int, number: int) -> tuple[int, bool]:
        """Return the signal that came to any rank, 0 for none, and True if it is time to write."""
        if self.team.world == 1:
            return number, perf_counter() - self.fetched > FLUSH_SECONDS
        if step < self.next:
            return 0, False
        # The first rank decides how many steps take about `FLUSH_SECONDS`.
        pace = (perf_counter() - self.looked) / (step - self.last)
        ahead = min(max(int(FLUSH_SECONDS / max(pace, 1e-9)), 1), FLUSH_STEPS)
        number, ahead = self.team.largest(number, ahead if self.team.first else 0)
        self.last, self.next, self.looked = step, step + ahead, perf_counter()
        return number, True


def fetch(lines: list[dict[str, Any]], team: Team) -> None:
    """Replace the tensors in lines by numbers, the loss by its mean over ranks."""
    for name in {key for line in lines for key, value in line.items() if isinstance(value, Tensor)}:
        column = torch.stack([line[name] for line in lines])
        if name == "loss":
            column = team.total(column.double()) / team.world
        for line, number in zip(lines, column.tolist(), strict=True):
            line[name] = number


@dataclass
class Watch:
    """Find the step at which a run turned non-finite, or skipped `PATIENCE` steps in a row."""

    skips: bool
    skipped: int = 0
    in_row: int = 0

    def diverged(self, lines: list[dict[str, Any]]) -> int | None:
        """Return the index of the line at which the run diverged; None if it did not."""
        for index, line in enumerate(lines):
            if self.skips:
                self.in_row = self.in_row + 1 if line["skipped"] > self.skipped else 0
                self.skipped = line["skipped"]
                bad = self.in_row >= PATIENCE
            else:
                bad = not (math.isfinite(line["loss"]) and math.isfinite(line["grad_norm"]))
            if bad:
                return index
        return None
