"""The training loop: when to step, fetch, evaluate, save and stop."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from corridor.train import checkpoint
from corridor.train.checkpoint import Position
from corridor.train.config import Config
from corridor.train.engine import Engine
from corridor.train.files import locked
from corridor.train.metrics import Step, Watch, fetch
from corridor.train.progress import Reporter, reporter
from corridor.train.record import Recorder, Summary, open_folder, read_run, write_summary
from corridor.train.stop import Interrupted, StopFlag, listening

# Metrics are fetched from the device after so many steps or seconds, whichever comes first.
FLUSH_STEPS = 100
FLUSH_SECONDS = 0.5


def train(
    config: Config,
    out: str | Path,
    *,
    resume: bool = False,
    progress: bool | Reporter = True,
) -> Summary:
    """Train a network as a config says and write all about it to a folder.

    On a CPU the same config and number of threads give the same numbers to the last bit, whether
    or not the run was stopped, or killed, and resumed on the way.

    Args:
        config: What to train and how.
        out: The run folder; it must be empty or absent unless ``resume``.
        resume: Continue the run found in ``out`` from its newest checkpoint; where there is no
            run, begin one. A run that has ended is not run again. ``epochs`` and ``steps`` may
            have grown if the schedule is constant, and options that change no number
            (``data_dir``, ``workers``, ``checkpoint_every``, ``keep``, ``tensorboard``,
            ``probe``) may differ; anything else must be the same.
        progress: Show progress on stderr, or to a reporter of your own.

    Returns:
        How the run ended, as in summary.json.

    Raises:
        ValueError: If the config asks for something impossible, or the folder holds other things.
        OSError: If data cannot be read or the folder cannot be written.
        Interrupted: After Ctrl-C or SIGTERM, when the step at hand is done and saved.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> config = Config(data="digits", model="mlp", batch_size=256, steps=2)
        >>> train(config, folder, progress=False).steps
        2
    """
    out = Path(out)
    device = _device(config.device)
    ended = open_folder(out, config, resume=resume)
    if ended is not None:
        return ended
    with locked(out), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(config.seed)
        engine = Engine(config, device)
        with listening() as flag:
            return Loop(engine, out, reporter(progress), flag, resume=resume).run()


class Loop:
    """One run from where it stands to its end.

    Args:
        engine: What computes.
        out: The run folder, as ``open_folder`` left it.
        show: Where progress is shown.
        flag: Whether to stop.
        resume: Go on from the newest checkpoint, if there is one.
    """

    def __init__(
        self, engine: Engine, out: Path, show: Reporter, flag: StopFlag, *, resume: bool
    ) -> None:
        self.engine, self.out, self.show, self.flag = engine, out, show, flag
        self.config = engine.config
        self.position = Position()
        self.pending: list[Step] = []
        saved = checkpoint.load(out) if resume else None
        if saved is not None:
            engine.load_state_dict(saved["states"])
            self.position = saved["position"]
            checkpoint.restore_random(saved["random"])
        if self.position.step > engine.total:
            raise ValueError(
                f"the run in {out} has made {self.position.step} steps already, "
                f"more than the {engine.total} asked for"
            )
        self.watch = Watch(engine.takes_loss, engine.skipped(), self.position.skips_in_row)
        self.recorder = Recorder(out, self.config, self.position.step)

    def run(self) -> Summary:
        """Train to the end, or until the run diverged or a signal came."""
        config = self.config
        title = f"{config.data} {config.model} {config.optimizer}"
        self.show.start(title, self.position.step, self.engine.total)
        self.fetched = perf_counter()
        self.started = self.fetched - self.position.seconds
        try:
            return self._end(self._train())
        finally:
            self.show.close()
            self.recorder.close()

    def _train(self) -> str:
        """All steps; returns why the run diverged, or nothing."""
        while self.position.step < self.engine.total:
            before = self.position.step
            start = self.position.batch
            for images, labels in self.engine.loader.train(self.position.epoch, start=start):
                self._step(images, labels)
                message = self._after_step()
                if message or self.position.step == self.engine.total:
                    return message
            if self.position.step == before:
                raise RuntimeError(f"the loader of {self.engine.data.title} gave no batch")
        return ""

    def _step(self, images: Tensor, labels: Tensor) -> None:
        position = self.position
        with self._untimed():
            geometry = self.engine.measure(images, labels, position.step)
        numbers = self.engine.step(images, labels)
        position.step += 1
        position.images += len(labels)
        position.seconds = perf_counter() - self.started
        begin = (position.step, position.epoch, position.seconds)
        self.pending.append(Step(*begin, *numbers, geometry))
        position.batch += 1
        if position.batch == self.engine.loader.steps_per_epoch:
            position.epoch, position.batch = position.epoch + 1, 0

    def _after_step(self) -> str:
        """Fetch, evaluate and save where it is due; returns why the run diverged, or nothing."""
        config, position = self.config, self.position
        stop = bool(self.flag.number)  # asked once: what stops the run must have saved it, too
        last = position.step == self.engine.total
        epoch_ended = position.batch == 0
        evaluate = last or (
            epoch_ended and config.eval_every > 0 and position.epoch % config.eval_every == 0
        )
        every = config.checkpoint_every
        save = last or stop or (position.step % every == 0 if every else epoch_ended)
        late = perf_counter() - self.fetched > FLUSH_SECONDS
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
            raise Interrupted(
                f"stopped at step {position.step} of {self.engine.total}, "
                f"saved in {self.out}; go on with --resume",
                self.flag.number,
            )
        return ""

    def _flush(self) -> str:
        """Write what is pending; returns why the run diverged, or nothing."""
        lines = fetch(self.pending)
        self.pending = []
        self.fetched = perf_counter()
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
        if bad is None:
            return ""
        what = "too many skipped steps in a row" if self.engine.takes_loss else "not finite"
        return f"loss or gradient: {what} at step {self.position.step}"

    @contextmanager
    def _untimed(self) -> Iterator[None]:
        """Leave what happens inside out of the training time."""
        begin = perf_counter()
        yield
        self.started += perf_counter() - begin

    def _evaluate(self) -> float:
        loss, accuracy = self.engine.evaluate()
        position = self.position
        position.best_accuracy = max(accuracy, position.best_accuracy or 0.0)
        line = {
            "step": position.step,
            "epoch": position.epoch,
            "test_loss": loss,
            "test_accuracy": accuracy,
            "seconds": round(position.seconds, 6),
        }
        self.recorder.write([line])
        return accuracy

    def _save(self) -> None:
        self.recorder.sync()  # no checkpoint may be ahead of its metrics
        checkpoint.save(self.out, self.position, self.engine.state_dict(), keep=self.config.keep)

    def _end(self, message: str) -> Summary:
        """The summary, read off the record, written and returned."""
        if not message and not self.engine.finite():
            message = "the parameters are not finite"
        record, position = read_run(self.out), self.position
        losses = [line["loss"] for line in record.steps[-self.engine.loader.steps_per_epoch :]]
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
            parameters=sum(p.numel() for p in self.engine.parameters),
            data=self.engine.data.title,
            images=len(self.engine.data.train),
            classes=len(self.engine.data.classes),
            message=message,
        )
        write_summary(self.out, summary)
        return summary


def _device(name: str) -> torch.device:
    """The device of a config, auto being the GPU if there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {name} is not there: torch sees {torch.cuda.device_count()} CUDA devices; "
            "use cpu or auto"
        )
    return device
