"""Many runs of one small network as one batched program, each with a run folder of its own."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from corridor.train.config import Config
from corridor.train.folder import checkpoint
from corridor.train.folder.checkpoint import Position
from corridor.train.folder.files import locked, wait_until_free
from corridor.train.folder.record import Recorder, Summary, open_folder, read_summary
from corridor.train.loop import FLUSH_STEPS, check_length, evaluation, summarise
from corridor.train.metrics import Step, Watch, fetch
from corridor.train.processes.signals import Interrupted, StopFlag, listening
from corridor.train.processes.team import place
from corridor.train.sweep.batch_program import Program, check, check_together, program_key
from corridor.train.sweep.jobs import LEAVE_SECONDS, Event, Job, reason
from corridor.train.trainer import Engine

Report = Callable[[int, float], None]


def train_batched(
    configs: Sequence[Config],
    folders: Sequence[str | Path],
    *,
    report: Report = lambda index, fraction: None,
) -> list[Summary]:
    """Train runs that differ in seed and step-size rule only, all in one program.

    Their parameters are stacked, and a step is one pass of `torch.func.vmap` over the stack. The
    numbers are those of ``train`` to rounding, the folders the same; a run that diverges ends, and
    leaves the others as they are. It pays where a network is so small that the work around its
    arithmetic takes most of the time.

    Args:
        configs: Equal but for seed, optimizer (clr, sps-safe, sgd), lr, momentum (sgd),
            weight_decay, f_star and scale. When a checkpoint of one is due, all are saved.
        folders: A run folder each. A run found there goes on, if all that have not ended stand at
            one step; one that has ended is not run again.
        report: Told the index of a run and the fraction that is done.

    Returns:
        How each run ended, as in its summary.json.

    Raises:
        ValueError: The configs do not go into one program, a folder holds other things or a run
            that is further than is asked for.
        OSError: Data cannot be read or a folder cannot be written.
        Interrupted: After Ctrl-C or SIGTERM, when the step at hand is done and saved; after one in
            the last step all runs have ended, and their summaries are written.

    Example:
        >>> import tempfile
        >>> few = {"data": "digits", "model": "mlp", "width": 8, "batch_size": 256, "steps": 2}
        >>> configs = [Config(**few, seed=0), Config(**few, optimizer="sgd", lr=0.1)]
        >>> folders = [tempfile.mkdtemp() for _ in configs]
        >>> [summary.status for summary in train_batched(configs, folders)]
        ['finished', 'finished']
    """
    if not configs or len(configs) != len(folders):
        raise ValueError(
            f"expected as many folders as configs, at least 1, got {len(configs)} configs and "
            f"{len(folders)} folders"
        )
    check_together(configs)
    places = [Path(folder) for folder in folders]
    found = [_found(config, folder) for config, folder in zip(configs, places, strict=True)]
    runs = {index: run for index, run in enumerate(found) if run is not None}
    for index in range(len(found)):
        if index not in runs:
            report(index, 1.0)
    steps = sorted({run.step for run in runs.values()})
    if len(steps) > 1:
        raise ValueError(f"the runs stand at different steps: {steps}; sweep does them")
    for index, fraction in _running(runs):
        report(index, fraction)
    return [summary for summary in map(read_summary, places) if summary is not None]


class _Run(NamedTuple):
    """A run that has not ended, and its newest checkpoint, if there is one."""

    config: Config
    folder: Path
    saved: dict[str, Any] | None

    @property
    def step(self) -> int:
        return 0 if self.saved is None else self.saved["position"].step


def _found(config: Config, folder: Path) -> _Run | None:
    """The run of a folder; None if it has ended."""
    if open_folder(folder, config, resume=True) is not None:
        return None
    return _Run(config, folder, checkpoint.load(folder))


def _running(runs: dict[int, _Run]) -> Iterator[tuple[int, float]]:
    """Train runs that stand at one step; yields how far which is."""
    if not runs:
        return
    device = place(next(iter(runs.values())).config.device)
    with ExitStack() as stack:
        for run in runs.values():
            stack.enter_context(locked(run.folder))
        stack.enter_context(torch.random.fork_rng())
        flag = stack.enter_context(listening())
        indices = list(runs)
        for row, fraction in _Batch(list(runs.values()), device, flag).run():
            yield indices[row], fraction
        if flag.number:  # too late for these runs, but not for what the caller would do next
            raise Interrupted("stopped when all runs had ended", flag.number)


def engine(jobs: Sequence[Job]) -> Iterator[Event]:
    """An engine for sweeps: the jobs, program by program, in this process.

    Raises:
        ValueError: A config does not go into a batched program; nothing has been run then.
    """
    groups: dict[Config, dict[int, Job]] = {}
    for index, job in enumerate(jobs):
        check(job.config)
        groups.setdefault(program_key(job.config), {})[index] = job
    return itertools.chain.from_iterable(map(_events, groups.values()))


def _events(jobs: dict[int, Job]) -> Iterator[Event]:
    """News of jobs that go together, once they stand at one step."""
    programs: dict[int, dict[int, _Run]] = {}
    for index, job in jobs.items():
        wait_until_free(job.folder, LEAVE_SECONDS)
        try:
            run = _found(job.config, job.folder)
        except Exception as error:
            yield Event("failed", index, reason(error))
            continue
        if run is None:
            yield Event("done", index, None)
        else:
            programs.setdefault(run.step, {})[index] = run
    for runs in programs.values():
        try:
            yield from (Event("progress", i, fraction) for i, fraction in _running(runs))
            failure = ""
        except Exception as error:
            failure = reason(error)
        for index, run in runs.items():
            over = not failure or _ended(run.folder)
            yield Event("done", index, None) if over else Event("failed", index, failure)


def _ended(folder: Path) -> bool:
    """Whether a run has ended, such as one that diverged before its program failed."""
    summary = read_summary(folder)
    return summary is not None and summary.status != "failed"


class _Batch:
    """The runs of one program from where they stand to their end."""

    def __init__(self, runs: list[_Run], device: torch.device, flag: StopFlag) -> None:
        self.flag = flag
        self.configs = configs = [run.config for run in runs]
        self.folders = [run.folder for run in runs]
        # Runs go on together from one step alone, so that all are saved when one is due.
        self.rhythms = {config.checkpoint_every for config in configs}
        self.engines: list[Engine] = []
        for config in configs:
            torch.manual_seed(config.seed)
            self.engines.append(Engine(config, device))
        self.first = self.engines[0]
        self.positions = [Position() for _ in configs]
        for index, (run, own) in enumerate(zip(runs, self.engines, strict=True)):
            check_length(run.folder, run.step, own.total)
            if run.saved is not None:
                own.load_state_dict(run.saved["states"])
                self.positions[index] = run.saved["position"]
        groups = [e.optimizer.param_groups[0] for e in self.engines]
        rates = [float(group.get("initial_lr", group["lr"])) for group in groups]
        self.program = Program([e.model for e in self.engines], configs, rates)
        self._take_states()
        watches = zip(self.engines, self.positions, strict=True)
        self.watches = [Watch(e.takes_loss, e.skipped(), p.skips_in_row) for e, p in watches]
        self.records = [
            Recorder(folder, config, position.step)
            for (config, folder, _), position in zip(runs, self.positions, strict=True)
        ]
        self.alive = torch.ones(len(configs), dtype=torch.bool, device=device)
        self.going = [True] * len(configs)
        self.pending: list[Step] = []
        self.counts: list[int] = []

    def run(self) -> Iterator[tuple[int, float]]:
        """Train all to the end, or until a signal came; yields now and then how far each is."""
        self.started = perf_counter() - self.positions[0].seconds
        try:
            position = self.positions[0]
            step, epoch, batch = position.step, position.epoch, position.batch
            while step < self.first.total and any(self.going):
                for images, labels in self._batches(epoch, batch):
                    step, batch = step + 1, batch + 1
                    self._step(images, labels, step, epoch)
                    over = batch == self.first.loader.steps_per_epoch
                    if over:
                        epoch, batch = epoch + 1, 0
                    if self._after(step, epoch, batch, over):
                        yield from enumerate(p.step / self.first.total for p in self.positions)
                    if step == self.first.total or not any(self.going):
                        break
            for index, finite in enumerate(self.program.finite().tolist()):
                if self.going[index]:
                    self._end(index, "" if finite else "the parameters are not finite")
        finally:
            for record in self.records:
                record.close()

    def _batches(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Every run's own batches, stacked; those of one seed are read once."""
        seeds = {engine.config.seed: engine.loader for engine in self.engines}
        if len(seeds) == 1:
            yield from self.first.loader.train(epoch, start=start)
            return
        place = {seed: row for row, seed in enumerate(seeds)}
        rows = torch.tensor([place[c.seed] for c in self.configs], device=self.alive.device)
        every = len(seeds) == len(self.configs)
        parts = [loader.train(epoch, start=start) for loader in seeds.values()]
        for batches in zip(*parts, strict=True):
            images, labels = (torch.stack(column) for column in zip(*batches, strict=True))
            yield (images, labels) if every else (images[rows], labels[rows])

    def _step(self, images: Tensor, labels: Tensor, step: int, epoch: int) -> None:
        factor = self._factor(step - 1)
        numbers = self.program.step(images, labels, factor, self.alive)
        self.pending.append(Step(step, epoch, perf_counter() - self.started, *numbers))
        self.counts.append(labels.shape[-1])

    def _factor(self, step: int) -> float:
        scheduler = self.first.scheduler
        return 1.0 if scheduler is None else scheduler.lr_lambdas[0](step)

    def _after(self, step: int, epoch: int, batch: int, over: bool) -> bool:
        """Write, evaluate and save where it is due; returns whether anything was written."""
        last, stop = step == self.first.total, bool(self.flag.number)
        every = self.configs[0].eval_every
        evaluate = last or (over and every > 0 and epoch % every == 0)
        save = last or stop or any(step % n == 0 if n else over for n in self.rhythms)
        flush = evaluate or save or len(self.pending) >= FLUSH_STEPS
        if flush:
            self._flush()
        for index, position in enumerate(self.positions):
            if self.going[index]:
                position.step, position.epoch, position.batch = step, epoch, batch
                position.seconds = perf_counter() - self.started
        begin = perf_counter()
        if evaluate and any(self.going):
            self._evaluate()
        if save:
            self._save()
        self.started += perf_counter() - begin
        if stop and not last:
            raise Interrupted(f"stopped at step {step} of {self.first.total}", self.flag.number)
        return flush

    def _flush(self) -> None:
        """Write what is pending, run by run, each up to where it diverged."""
        common = fetch(self.pending)
        for index, record in enumerate(self.records):
            if not self.going[index]:
                continue
            position, watch = self.positions[index], self.watches[index]
            lines = [_of_run(index, line) for line in common]
            bad = watch.diverged(lines)
            position.skips_in_row = watch.in_row
            lines = lines if bad is None else lines[: bad + 1]
            position.images += sum(self.counts[: len(lines)])
            record.write(lines)
            if bad is not None:
                self._give_up(index, lines[-1])
        self.pending, self.counts = [], []

    def _give_up(self, index: int, line: dict[str, Any]) -> None:
        """End a run that diverged; its summary stays, even if the others are stopped."""
        begin = perf_counter()
        self.positions[index].step, self.positions[index].seconds = line["step"], line["seconds"]
        self.going[index], self.alive[index] = False, False
        self._end(index, self.watches[index].message(line["step"]))
        self.started += perf_counter() - begin

    def _evaluate(self) -> None:
        sums, count = [], 0
        for images, labels in self.first.loader.test():
            losses, right = self.program.evaluate(images, labels)
            sums.append(torch.stack([losses.double(), right.double()]))
            count += len(labels)
        losses, accuracies = (torch.stack(sums).sum(0) / count).tolist()
        for index, position in enumerate(self.positions):
            if self.going[index]:
                line = evaluation(position, losses[index], accuracies[index])
                self.records[index].write([line])

    def _save(self) -> None:
        for index, engine in enumerate(self.engines):
            if self.going[index]:
                self._give_state(index)
                self.records[index].sync()
                place, position = self.folders[index], self.positions[index]
                checkpoint.save(place, position, engine.state_dict(), keep=engine.config.keep)

    def _take_states(self) -> None:
        """SGD's velocities and the counts of skipped steps, from the loaded optimizers."""
        for index, engine in enumerate(self.engines):
            self.program.skipped[index] = engine.skipped()
            for name, p in engine.model.named_parameters():
                buffer = engine.optimizer.state.get(p, {}).get("momentum_buffer")
                if buffer is not None:
                    self.program.velocity[name][index] = buffer
                    self.program.begun[index] = True

    @torch.no_grad()
    def _give_state(self, index: int) -> None:
        """Bring a run's network and optimizer to where the program is, as ``train`` leaves them."""
        program, engine = self.program, self.engines[index]
        group = engine.optimizer.param_groups[0]
        for name, value in [*engine.model.named_parameters(), *engine.model.named_buffers()]:
            value.copy_(program.params.get(name, program.buffers.get(name))[index])
            if name in program.velocity and group["momentum"]:
                moved = program.velocity[name][index].clone()
                engine.optimizer.state[value]["momentum_buffer"] = moved
        if "skipped" in group:
            group["skipped"] = program.skipped[index].clone()
        if engine.scheduler is not None:
            step = self.positions[index].step
            group["lr"] = float(group["initial_lr"]) * self._factor(step)
            engine.scheduler.last_epoch = step

    def _end(self, index: int, message: str) -> None:
        """Write the summary of a run."""
        summarise(self.folders[index], self.engines[index], self.positions[index], message)


def _of_run(index: int, line: dict[str, Any]) -> dict[str, Any]:
    """One run's line, from one that holds every number of the program as a list over the runs."""
    return {key: v[index] if isinstance(v, list) else v for key, v in line.items()}
