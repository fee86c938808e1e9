"""The table of faults: what becomes of a run over several processes when something fails.

    python -m tests.reliability        writes docs/reliability.md

`tests/distributed/test_reliability.py` runs every row, the slow ones by `make test-slow`.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.distributed import trained
from tests.distributed.launched import Agent, Pair, free_port, newest_step, options, wait_for
from tests.distributed.ranks import Ranks
from tests.distributed.trained import largest_difference
from tests.pages import write_table

from corridor.train.folder import checkpoint
from corridor.train.folder.record import read_run
from corridor.train.processes.team import GRACE

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"

# 15 steps an epoch; a checkpoint every fourth, most of them within an epoch.
RUN = {
    "model": "tests.train.small_networks:unhurried",
    "batch_size": 90,
    "epochs": 4,
    "checkpoint_every": 4,
    "momentum": 0.9,
}
LONG = {**RUN, "epochs": 4000}
TWO = ("--standalone", "--nproc-per-node", "2", "--max-restarts", "2")
TIMEOUT = 4.0


class Bench(NamedTuple):
    """Where a fault is tried: ranks that stay up, and a folder."""

    ranks: Ranks
    folder: Path


class Fault(NamedTuple):
    """What is done, the one right outcome, and whether it takes long."""

    check: Callable[[Bench], str]
    right: str
    slow: bool = False


def _killed(rank: int, parallel: str = "ddp", at: int = 12) -> Callable[[Bench], str]:
    """SIGKILL a rank under torchrun, which starts all again."""

    def check(bench: Bench) -> str:
        run = {**RUN, "parallel": parallel}
        agent = Agent(bench.folder / "killed", "log", TWO, options(**run))
        try:
            wait_for(lambda: newest_step(agent.out) >= at)
            os.kill(agent.workers()[rank], signal.SIGKILL)
            status = agent.ended()
        finally:
            agent.kill()
        if status:
            return f"exit status {status}"
        bench.ranks.run(2, trained.run, run, str(bench.folder / "whole"))
        worst = largest_difference(bench.folder / "whole", agent.out)
        return "resumed, the same run bit for bit" if worst[0] == 0.0 else f"differs by {worst}"

    return check


def _lost_host(bench: Bench) -> str:
    """Two agents stand for two hosts; one of them goes with all that it runs."""
    fast = "last_call_timeout=4,keep_alive_interval=1,keep_alive_max_attempt=2"
    run = {**RUN, "epochs": 8}
    launcher = (
        *("--nnodes", "1:2", "--nproc-per-node", "1", "--max-restarts", "3"),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{free_port()}"),
        *("--rdzv-id", "one", "--rdzv-conf"),
    )
    out = bench.folder / "run"
    hosts = [
        Agent(
            out, name, (*launcher, f"{fast},is_host={name == 'a'}"), [*options(**run), "--resume"]
        )
        for name in "ab"
    ]
    try:
        wait_for(lambda: _processes(out) == 2 and newest_step(out) >= 4)
        hosts[1].kill()
        status = hosts[0].ended()
    finally:
        for host in hosts:
            host.kill()
    bench.ranks.run(1, trained.run, run, str(bench.folder / "whole"))
    worst = largest_difference(bench.folder / "whole", out)[0]
    if status or _processes(out) != 1 or worst > 1e-4:
        return f"exit status {status}, {_processes(out)} processes at the end, differs by {worst}"
    return "the other goes on alone, the same run to 1e-4"


def _processes(out: Path) -> int:
    try:
        return read_run(out).environment["processes"]
    except (FileNotFoundError, KeyError, ValueError):
        return 0


def _told_to_stop(bench: Bench) -> str:
    """SIGTERM to one of two ranks, as a scheduler sends it before it takes a machine back."""
    pair = Pair(bench.folder / "run", options(**{**LONG, "checkpoint_every": 100_000}))
    try:
        wait_for(lambda: (pair.out / "metrics.jsonl").exists())
        time.sleep(0.5)
        pair.signal(1, signal.SIGTERM)
        statuses = [pair.ended(rank) for rank in range(2)]
    finally:
        pair.kill()
    steps = read_run(pair.out).steps[-1]["step"]
    if statuses != [143, 143] or newest_step(pair.out) != steps or len(pair.said()) != 1:
        return f"exit status {statuses}, step {steps}, {pair.said()}"
    return "all stop at one step, saved, exit status 143"


def _agent_told_to_stop(bench: Bench) -> str:
    agent = Agent(
        bench.folder / "run", "log", TWO, options(**{**LONG, "checkpoint_every": 100_000})
    )
    try:
        wait_for(lambda: (agent.out / "metrics.jsonl").exists())
        time.sleep(0.5)
        agent.process.terminate()
        status = agent.ended()
    finally:
        agent.kill()
    steps = read_run(agent.out).steps[-1]["step"]
    saved = newest_step(agent.out)
    return (
        "all stop at one step, saved" if status and saved == steps else f"{status} {agent.said()}"
    )


def _hung(bench: Bench) -> str:
    """SIGSTOP keeps a rank from ever coming to the next step, and its connections open."""
    pair = Pair(bench.folder / "run", options(**LONG, timeout=TIMEOUT))
    try:
        wait_for(lambda: newest_step(pair.out) >= 4)
        pair.signal(1, signal.SIGSTOP)
        begin = time.monotonic()
        status = pair.ended(0)
        seconds = time.monotonic() - begin
    finally:
        pair.kill()
    return _named(pair.said(), 1, status, seconds)


def _first_killed_alone(bench: Bench) -> str:
    """Without a launcher rank 0 holds the store by which ranks find out who is lost."""
    pair = Pair(bench.folder / "run", options(**LONG))
    try:
        wait_for(lambda: newest_step(pair.out) >= 4)
        pair.signal(0, signal.SIGKILL)
        status = pair.ended(1)
    finally:
        pair.kill()
    said = pair.said()
    right = status == 2 and len(said) == 1 and "another process is gone at step" in said[0]
    return "one line, exit status 2" if right else f"{status} {said}"


def _first_hung(bench: Bench) -> str:
    agent = Agent(
        bench.folder / "run",
        "log",
        ("--standalone", "--nproc-per-node", "2"),
        options(**LONG, timeout=TIMEOUT),
    )
    try:
        wait_for(lambda: newest_step(agent.out) >= 4)
        os.kill(agent.workers()[0], signal.SIGSTOP)
        begin = time.monotonic()
        wait_for(lambda: bool(agent.said()))
        return _named(agent.said(), 0, 2, time.monotonic() - begin)
    finally:
        agent.kill()


def _named(said: list[str], rank: int, status: int | None, seconds: float) -> str:
    words = f"rank {rank} did not reach step"
    if len(said) != 1 or words not in said[0] or status != 2:
        return f"exit status {status}: {said}"
    late = seconds > TIMEOUT + GRACE + 5.0
    return f"named after {seconds:.0f} s" if late else "named within the timeout and 3 s"


def _poisoned(bench: Bench) -> str:
    """NaN in two batches of rank 1 alone."""
    run = {**RUN, "model": "tests.train.small_networks:poisoned", "epochs": 1}
    bench.ranks.run(2, trained.run, run, str(bench.folder))
    lines = read_run(bench.folder).steps
    sizes = [line["effective_lr"] for line in lines]
    finite = all(value.isfinite().all() for value in trained.final(bench.folder).values())
    skipped = [k for k, h in enumerate(sizes, 1) if h == 0.0]
    right = skipped == [3, 4] and lines[-1]["skipped"] == 2 and finite
    return "skipped on all alike" if right else f"skipped {skipped}"


def _damaged(bench: Bench) -> str:
    """Cut a file of the newest checkpoint in half."""
    bench.ranks.run(2, trained.run, {**RUN, "epochs": 1}, str(bench.folder))
    newest = checkpoint.paths(bench.folder)[-1]
    file = newest / "__0_0.distcp"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        saved = checkpoint.load(bench.folder)
    assert saved is not None
    warned = any(f"{newest} is damaged" in str(w.message) for w in caught)
    before = saved.position.step < 15
    return "a warning, the one before is used" if warned and before else "taken for whole"


def _killed_in_mid_checkpoint(bench: Bench, times: int) -> str:
    """A checkpoint every step and a kill at any moment: most fall into one."""
    run = {**RUN, "model": f"{trained.HERE}:smooth", "checkpoint_every": 1}
    for index in range(times):
        out, at = bench.folder / "killed", 12 * (index + 1)
        pair = Pair(out, [*options(**run), "--resume"])
        try:
            wait_for(lambda at=at, out=out: newest_step(out) >= at)
            time.sleep(0.004 * index)
            pair.signal(index % 2, signal.SIGKILL)
        finally:
            pair.kill()
    bench.ranks.run(2, trained.run, run, str(bench.folder / "killed"), True)
    bench.ranks.run(2, trained.run, run, str(bench.folder / "whole"))
    worst = largest_difference(bench.folder / "whole", bench.folder / "killed")
    return "resumed, the same run bit for bit" if worst[0] == 0.0 else f"differs by {worst}"


def _refused(job: Callable, needle: str, *more: object) -> Callable[[Bench], str]:
    """One rank says why in one line, and all end."""

    def check(bench: Bench) -> str:
        found = bench.ranks.run(2, job, *more, str(bench.folder))
        told = [text for kind, text in found if kind not in ("", "ElsewhereError")]
        ended = all(kind for kind, _ in found)
        right = ended and len(told) == 1 and needle in told[0] and "\n" not in told[0]
        return "one line from one rank, all end" if right else f"{found}"

    return check


def _missing_backend(bench: Bench) -> str:
    """Two ranks ask for GPUs of a host that has fewer."""
    pair = Pair(bench.folder / "run", options(**RUN, device="cuda"))
    try:
        statuses = [pair.ended(rank) for rank in range(2)]
    finally:
        pair.kill()
    said = pair.said()
    right = len(said) == 1 and "has no GPU" in said[0] and 0 not in statuses
    return "one line from one rank, all end" if right else f"{statuses} {said}"


def _unwritable(bench: Bench) -> str:
    (bench.folder / "file").write_text("")
    run = {**RUN, "epochs": 1}
    found = bench.ranks.run(2, trained.run_and_tell, [run], str(bench.folder / "file" / "run"))
    right = found[0][0] == "OSError" and found[1][0] == "ElsewhereError"
    return "one line from one rank, all end" if right else f"{found}"


def _other_data(bench: Bench, fault: str, needle: str) -> str:
    run = {**RUN, "train_limit": 900}
    found = bench.ranks.run(2, trained.with_other_data, run, str(bench.folder), fault)
    told = [text for kind, text in found if kind not in ("", "ElsewhereError")]
    right = len(told) == 1 and needle in told[0]
    return "one line from one rank, all end" if right else f"{found}"


ONE_LINE = "one line from one rank, all end"
AGAIN = "resumed, the same run bit for bit"
ROWS: dict[str, Fault] = {
    "a rank killed (SIGKILL) under `--max-restarts`": Fault(_killed(1), AGAIN, slow=True),
    "rank 0 killed, the one that writes": Fault(_killed(0), AGAIN, slow=True),
    "a rank killed, parameters sharded": Fault(_killed(1, "fsdp"), AGAIN, slow=True),
    "both ranks killed, a checkpoint every step": Fault(
        lambda bench: _killed_in_mid_checkpoint(bench, 1), AGAIN
    ),
    "both ranks killed three times, a checkpoint every step": Fault(
        lambda bench: _killed_in_mid_checkpoint(bench, 3), AGAIN, slow=True
    ),
    "rank 0 killed, without a launcher": Fault(_first_killed_alone, "one line, exit status 2"),
    "a host lost under `--nnodes 1:2`": Fault(
        _lost_host, "the other goes on alone, the same run to 1e-4", slow=True
    ),
    "SIGTERM to one rank": Fault(_told_to_stop, "all stop at one step, saved, exit status 143"),
    "SIGTERM to torchrun": Fault(_agent_told_to_stop, "all stop at one step, saved", slow=True),
    "NaN in one rank's part of two batches": Fault(_poisoned, "skipped on all alike"),
    "a rank that hangs (SIGSTOP)": Fault(_hung, "named within the timeout and 3 s"),
    "rank 0 hangs, under torchrun": Fault(
        _first_hung, "named within the timeout and 3 s", slow=True
    ),
    "half of a checkpoint's file missing": Fault(_damaged, "a warning, the one before is used"),
    "disk full in mid-checkpoint": Fault(
        _refused(
            trained.run_on_a_full_disk, "File too large", {**RUN, "model": f"{trained.HERE}:smooth"}
        ),
        ONE_LINE,
    ),
    "folder that cannot be written": Fault(_unwritable, ONE_LINE),
    "ranks with different options": Fault(
        _refused(
            trained.run_and_tell,
            "rank 0 has --lr 0.5 and rank 1 has 0.25",
            [{**RUN, "lr": 0.5}, {**RUN, "lr": 0.25}],
        ),
        ONE_LINE,
    ),
    "ranks with data of different lengths": Fault(
        lambda bench: _other_data(bench, "fewer", "training images"), ONE_LINE
    ),
    "data missing on one rank": Fault(
        lambda bench: _other_data(bench, "missing", "no digits here"), ONE_LINE
    ),
    "a batch that the ranks cannot share": Fault(
        _refused(trained.run_and_tell, "must be divisible by 2", [{**RUN, "batch_size": 91}]),
        ONE_LINE,
    ),
    "fewer GPUs than ranks": Fault(_missing_backend, ONE_LINE),
}


def table(outcome: Callable[[str], str]) -> str:
    """The page's table, of what each row comes to."""
    lines = ["| What fails | What comes of it | Run by |", "|---|---|---|"]
    for name, row in ROWS.items():
        where = "`make test-slow`" if row.slow else "`make test`"
        lines.append(f"| {name} | {outcome(name)} | {where} |")
    return "\n".join(lines)


def main() -> None:
    """Run all rows, and write the table into the page, between its marks."""
    ranks = Ranks()

    def outcome(name: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            found = ROWS[name].check(Bench(ranks, Path(folder)))
        print(f"{name}: {found}", flush=True)
        return found

    made = table(outcome)
    ranks.close()
    write_table(PAGE, made)


if __name__ == "__main__":
    main()
