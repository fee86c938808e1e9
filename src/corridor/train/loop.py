"""The training loop: when to step, fetch, evaluate, save and stop."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from corridor.data.rng import derive
from corridor.train.config import Config
from corridor.train.folder import checkpoint
from corridor.train.folder.checkpoint import Position
from corridor.train.folder.files import HELD_SECONDS, locked, wait_until_free
from corridor.train.folder.progress import Reporter, reporter
from corridor.train.folder.record import (
    Nobody,
    Recorder,
    Summary,
    open_folder,
    read_run,
    write_summary,
)
from corridor.train.metrics import Step, Watch, fetch
from corridor.train.processes import restarted
from corridor.train.processes.signals import Interrupted, StopFlag, listening
from corridor.train.processes.team import Team, joined
from corridor.train.trainer import Trainer

# Metrics are fetched from the device after so many steps or seconds, whichever comes first.
FLUSH_STEPS = 100
FLUSH_SECONDS = 0.5

# Options that may differ by host.
BY_HOST = ("data_dir", "workers")


def train(
    config: Config,
    out: str | Path,
    *,
    resume: bool = False,
    progress: bool | Reporter = True,
) -> Summary:
    """Train a network as a config says and write all about it to a folder.

    On a CPU the same config and number of threads give the same numbers to the last bit, whether
    or not the run was stopped, or killed, and resumed on the way. In processes launched by
    torchrun, or inside an initialised process group, each process calls this alike: they share
    every batch, and rank 0 writes.

    Args:
        config: What to train and how.
        out: The run folder; it must be empty or absent unless ``resume``.
        resume: Continue the run found in ``out`` from its newest checkpoint; where there is no
            run, begin one. A run that has ended is not run again. ``epochs`` and ``steps`` may
            have grown if the schedule is constant, and options that change no number
            (``data_dir``, ``workers``, ``checkpoint_every``, ``keep``, ``tensorboard``,
            ``probe``, ``parallel``, ``timeout``) may differ, and so may the number of processes;
            anything else must be the same. A process restarted by torchrun resumes in any case.
        progress: Show progress on stderr, or to a reporter of your own.

    Returns:
        How the run ended, as in summary.json.

    Raises:
        ValueError: If the config asks for something impossible, or the folder holds other things.
        OSError: If data cannot be read or the folder cannot be written.
        ConnectionError: If another process was lost; the message names it.
        ElsewhereError: If another process failed, which says why.
        Interrupted: After Ctrl-C or SIGTERM, when the step at hand is done and saved.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> config = Config(data="digits", model="mlp", batch_size=256, steps=2)
        >>> train(config, folder, progress=False).steps
        2
    """
    with joined(config.device, config.timeout) as team:
        return _train(config, Path(out), team, resume or restarted(), progress)


def _train(
    config: Config,
    out: Path,
    team: Team,
    resume: bool,
    progress: bool | Reporter,
) -> Summary:
    options = config.to_dict().items()
    team.check_alike({f"--{k.replace('_', '-')}": v for k, v in options if k not in BY_HOST})
    resume = team.largest(resume) > [0]  # a process that has just joined was not restarted
    ended = team.together(lambda: open_folder(out, config, resume=resume) if team.first else None)
    ended = told(team, ended)
    if ended is not None:
        return ended
    device = team.device
    devices = [device] if device.type == "cuda" else []
    with _held(out, team), torch.random.fork_rng(devices=devices):
        torch.manual_seed(config.seed)
        trainer = Trainer(config, device, team)
        with listening() as flag:
            show = reporter(progress if team.first else False)
            try:
                return Loop(trainer, out, show, flag, resume=resume).run()
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                raise OSError(
                    "a process that decodes images was killed, as for want of memory; use fewer "
                    "--workers, and go on with --resume"
                ) from error


@contextmanager
def _held(out: Path, team: Team) -> Iterator[None]:
    """The run folder, kept by the rank that writes."""
    if team.first:
        wait_until_free(out, HELD_SECONDS)
    with ExitStack() as stack:
        team.together(lambda: stack.enter_context(locked(out)) if team.first else None)
        yield


class Loop:
    """One run from where it stands to its end.

    Args:
        trainer: What computes.
        out: The run folder, as ``open_folder`` left it.
        show: Where progress is shown.
        flag: Whether to stop.
        resume: Go on from the newest checkpoint, if there is one.
    """

    def __init__(
        self, trainer: Trainer, out: Path, show: Reporter, flag: StopFlag, *, resume: bool
    ) -> None:
        self.trainer, self.out, self.show, self.flag = trainer, out, show, flag
        self.config, self.team = trainer.config, trainer.team
        self.position = Position()
        self.pending: list[Step] = []
        saved = checkpoint.load(out, self.team, trainer.like()) if resume else None
        if saved is not None:
            trainer.load_state_dict(saved.states)
            self.position = saved.position
            seed = derive(self.config.seed, self.position.step)
            checkpoint.restore_random(saved.random, self.team, seed)
        check_length(out, self.position.step, trainer.total)
        self.watch = Watch(trainer.takes_loss, trainer.skipped(), self.position.skips_in_row)
        self.saver = checkpoint.Saver(out, self.team, self.config.keep)
        self.recorder = self.team.together(self._recorder)

    def _recorder(self) -> Recorder | Nobody:
        first = self.team.first
        return Recorder(self.out, self.config, self.position.step) if first else Nobody()

    def run(self) -> Summary:
        """Train to the end, or until the run diverged or a signal came."""
        config = self.config
        title = f"{config.data} {config.model} {config.optimizer}"
        self.show.start(title, self.position.step, self.trainer.total)
        self.rhythm = Rhythm(self.team, self.position.step)
        self.started = perf_counter() - self.position.seconds
        try:
            return self._end(self._train())
        finally:
            self.show.close()
            self.recorder.close()

    def _train(self) -> str:
        """All steps; returns why the run diverged, or nothing."""
        while self.position.step < self.trainer.total:
            before = self.position.step
            start = self.position.batch
            for images, labels in self.trainer.loader.train(self.position.epoch, start=start):
                self._step(images, labels)
                message = self._after_step()
                if message or self.position.step == self.trainer.total:
                    return message
            if self.position.step == before:
                raise RuntimeError(f"the loader of {self.trainer.data.title} gave no batch")
        return ""

    def _step(self, images: Tensor, labels: Tensor) -> None:
        position = self.position
        count = self.trainer.loader.size(position.batch)
        self.team.doing = f"step {position.step + 1}"
        with self._untimed():
            geometry = self.trainer.measure(images, labels, position.step, count)
        numbers = self.trainer.step(images, labels, count)
        position.step += 1
        position.images += count
        position.seconds = perf_counter() - self.started
        begin = (position.step, position.epoch, position.seconds)
        self.pending.append(Step(*begin, *numbers, geometry))
        position.batch += 1
        if position.batch == self.trainer.loader.steps_per_epoch:
            position.epoch, position.batch = position.epoch + 1, 0

    def _after_step(self) -> str:
        """Fetch, evaluate and save where it is due; returns why the run diverged, or nothing."""
        config, position = self.config, self.position
        # Asked once: what stops the run must have saved it, too.
        stop, late = self.rhythm.after(position.step, self.flag.number)
        last = position.step == self.trainer.total
        epoch_ended = position.batch == 0
        evaluate = last or (
            epoch_ended and config.eval_every > 0 and position.epoch % config.eval_every == 0
        )
        every = config.checkpoint_every
        save = last or stop > 0 or (position.step % every == 0 if every else epoch_ended)
        if evaluate or save or late or len(self.pending) >= FLUSH_STEPS:
            message = self._flush()
            if message:
                return message
        if evaluate or save or epoch_ended:
            with self._untimed():
                accuracy = self._evaluate() if evaluate else None
                if epoch_ended:
                    self.show.epoch(position.epoch, accuracy)
                if save:
                    self._save()
        if stop and not last:
            self.saver.wait()
            raise Interrupted(
                f"stopped at step {position.step} of {self.trainer.total}, "
                f"saved in {self.out}; go on with --resume",
                stop,
            )
        return ""

    def _flush(self) -> str:
        """Write what is pending; returns why the run diverged, or nothing."""
        lines = fetch(self.pending, self._mean)
        self.pending = []
        self.rhythm.flushed()
        bad = self.watch.diverged(lines)
        self.position.skips_in_row = self.watch.in_row
        if bad is not None:  # what came after it would depend on when this was noticed
            lines = lines[: bad + 1]
            self.position.step = lines[-1]["step"]
        self.recorder.write(lines)
        if lines:
            speed = self.position.images / max(self.position.seconds, 1e-9)
            loss, effective_lr = lines[-1]["loss"], lines[-1]["effective_lr"]
            self.show.update(self.position.step, loss, effective_lr, speed)
        return "" if bad is None else self.watch.message(self.position.step)

    def _mean(self, losses: Tensor) -> Tensor:
        team = self.team
        return losses if team.world == 1 else team.total(losses.double()) / team.world

    @contextmanager
    def _untimed(self) -> Iterator[None]:
        """Leave what happens inside out of the training time."""
        begin = perf_counter()
        yield
        self.started += perf_counter() - begin

    def _evaluate(self) -> float:
        loss, accuracy = self.trainer.evaluate()
        self.recorder.write([evaluation(self.position, loss, accuracy)])
        return accuracy

    def _save(self) -> None:
        # No checkpoint may be ahead of its metrics.
        self.team.together(self.recorder.sync)
        self.saver.save(self.position, self.trainer.state_dict())

    def _end(self, message: str) -> Summary:
        """The summary, read off the record, written and returned."""
        self.saver.wait()
        if not message and not self.trainer.finite():
            message = "the parameters are not finite"
        summary = self.team.together(lambda: self._summary(message) if self.team.first else None)
        found = told(self.team, summary)
        assert found is not None
        return found

    def _summary(self, message: str) -> Summary:
        return summarise(self.out, self.trainer, self.position, message)


def check_length(out: Path, step: int, total: int) -> None:
    """Raise a ValueError if a run has made more steps than are asked for."""
    if step > total:
        raise ValueError(
            f"the run in {out} has made {step} steps already, more than the {total} asked for"
        )


def evaluation(position: Position, loss: float, accuracy: float) -> dict[str, Any]:
    """The metrics line of an evaluation; the position keeps the best accuracy."""
    position.best_accuracy = max(accuracy, position.best_accuracy or 0.0)
    return {
        "step": position.step,
        "epoch": position.epoch,
        "test_loss": loss,
        "test_accuracy": accuracy,
        "seconds": round(position.seconds, 6),
    }


def summarise(out: Path, trainer: Trainer, position: Position, message: str) -> Summary:
    """The summary of a run that ended, read off its record, written and returned.

    Args:
        out: Its folder.
        trainer: What trained it.
        position: How far it came.
        message: Why it diverged; empty if it did not.
    """
    record = read_run(out)
    losses = [line["loss"] for line in record.steps[-trainer.loader.steps_per_epoch :]]
    accuracies = [line["test_accuracy"] for line in record.evaluations]
    summary = Summary(
        status="diverged" if message else "finished",
        steps=position.step,
        seconds=round(position.seconds, 6),
        images_per_second=position.images / max(position.seconds, 1e-9),
        final_loss=sum(losses) / len(losses),
        best_test_accuracy=position.best_accuracy,
        final_test_accuracy=accuracies[-1] if accuracies else None,
        skipped=record.steps[-1]["skipped"],
        parameters=sum(p.numel() for p in trainer.parameters),
        data=trainer.data.title,
        images=len(trainer.data.train),
        classes=len(trainer.data.classes),
        message=message,
    )
    write_summary(out, summary)
    return summary


def told(team: Team, summary: Summary | None) -> Summary | None:
    """The summary that rank 0 has, on all ranks."""
    found = team.gather(None if summary is None else asdict(summary))[0]
    return None if found is None else Summary(**found)


class Rhythm:
    """When ranks look up from their work: at the same steps, so that they record and stop alike.

    A process alone looks after every step. Of several, rank 0 says at each look how many steps make
    about `FLUSH_SECONDS`, and the reduction that tells the others carries the signals, too.
    """

    def __init__(self, team: Team, step: int) -> None:
        self.team, self.last, self.next = team, step, step + 1
        self.looked = perf_counter()
        self.flushed()

    def flushed(self) -> None:
        """What was pending has just been written."""
        self.fetched = perf_counter()

    def after(self, step: int, number: int) -> tuple[int, bool]:
        """The signal that came to any rank, 0 for none, and whether it is time to write.

        Args:
            step: Steps made.
            number: The signal that came here.
        """
        if self.team.world == 1:
            return number, perf_counter() - self.fetched > FLUSH_SECONDS
        if step < self.next:
            return 0, False
        pace = (perf_counter() - self.looked) / (step - self.last)
        ahead = min(max(int(FLUSH_SECONDS / max(pace, 1e-9)), 1), FLUSH_STEPS)
        number, ahead = self.team.largest(number, ahead if self.team.first else 0)
        self.last, self.next, self.looked = step, step + ahead, perf_counter()
        return number, True
