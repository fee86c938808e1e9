"""What several processes cost: a step's all-reduce, the probe, checkpoints, and the shared step.

    python benchmarks/processes.py [--rounds 41] [--worlds 1 2 4]

CLR and SGD under DDP take turns in the same processes on the same ResNet-8 (CIFAR-10's shape,
128 images a step in all); a ratio is the median over rounds of paired steps, by the clock and by
the processor time of all ranks. Then the latency of all-reduces by size, the probe against a
gradient, and how long a checkpoint holds the training up and takes in all. The last table compares
measured step times with the model of docs/scaling.md.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from common import paired_ratio, write_results
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from corridor import CLR, models
from corridor.geometry import measure
from corridor.train.folder.checkpoint import Position, Saver
from corridor.train.processes.team import Team

BATCH = 128
SIZES = (1, 1_000, 100_000, 1_000_000, 10_000_000)  # float32 numbers in an all-reduce
TIMEOUT = 300.0  # seconds to wait for another process
CHECKPOINTS = (100_000, 1_000_000, 10_000_000)  # float32 numbers in a state


def resnet8() -> nn.Module:
    """The same weights on every rank."""
    torch.manual_seed(0)
    return models.build("resnet8", num_classes=10, in_channels=3, image_size=32)


def together(world: int) -> None:
    """Until all ranks are here."""
    if world > 1:
        dist.barrier()


def steps(rank: int, world: int, rounds: int) -> dict[str, list[tuple[float, float, float]]]:
    """Seconds of a step of each optimizer in each round.

    By the clock, of processor time, and by the clock of the optimizer's own part, its all-reduce
    included.
    """
    draw = torch.Generator().manual_seed(rank)
    images = torch.randn(BATCH // world, 3, 32, 32, generator=draw)
    labels = torch.randint(0, 10, (BATCH // world,), generator=draw)
    trainings: dict[str, Callable[[], float]] = {}
    for name in ("SGD", "CLR", "apart"):  # the last exchanges nothing
        model = resnet8()
        shared = DistributedDataParallel(model) if world > 1 and name != "apart" else model
        sgd = torch.optim.SGD(model.parameters(), lr=1e-4, fused=True)
        opt: Any = CLR(model.parameters(), max_lr=1e-4) if name == "CLR" else sgd
        trainings[name] = lambda n=name, m=shared, o=opt: _step(n, m, o, images, labels)
    seconds: dict[str, list[tuple[float, float, float]]] = {name: [] for name in trainings}
    order = list(trainings)
    shuffler = random.Random(0)
    for index in range(rounds + 5):
        shuffler.shuffle(order)
        for name in order:
            together(world)
            clock, used = time.perf_counter(), time.process_time()
            own = trainings[name]()
            together(world)
            if index >= 5:
                taken = time.perf_counter() - clock, time.process_time() - used, own
                seconds[name].append(taken)
    return seconds


def _step(name: str, model: nn.Module, opt: Any, images: Tensor, labels: Tensor) -> float:
    loss = cross_entropy(model(images), labels)
    loss.backward()
    begin = time.perf_counter()
    opt.step(loss=loss) if name == "CLR" else opt.step()
    taken = time.perf_counter() - begin
    opt.zero_grad()
    return taken


def all_reduces(world: int) -> dict[str, float]:
    """Median seconds of an all-reduce, by how many float32 numbers it carries."""
    found = {}
    for size in SIZES:
        numbers = torch.ones(size)
        taken = []
        for _ in range(200 if size <= 100_000 else 15):
            together(world)
            begin = time.perf_counter()
            dist.all_reduce(numbers)
            taken.append(time.perf_counter() - begin)
        found[str(size)] = statistics.median(taken)
    return found


def probe(rank: int, world: int) -> list[tuple[float, float]]:
    """Seconds of a gradient and of a measurement with a secant, in turn."""
    model = resnet8()
    draw = torch.Generator().manual_seed(rank)
    images = torch.randn(BATCH // world, 3, 32, 32, generator=draw)
    labels = torch.randint(0, 10, (BATCH // world,), generator=draw)
    params = list(model.parameters())

    def closure() -> Tensor:
        return cross_entropy(model(images), labels)

    pairs = []
    for index in range(9):
        together(world)
        begin = time.perf_counter()
        torch.autograd.grad(closure(), params)
        together(world)
        middle = time.perf_counter()
        measure(closure, params, step=1e-4, across_ranks=world > 1)
        together(world)
        if index >= 2:
            pairs.append((middle - begin, time.perf_counter() - middle))
    return pairs


def checkpoints(rank: int, world: int, folder: str) -> dict[str, dict[str, float]]:
    """Seconds that a checkpoint holds the training up, and until it is on the disk."""
    found = {}
    for size in CHECKPOINTS:
        states = {"model": {str(i): torch.randn(size // 10) for i in range(10)}}
        saver = Saver(Path(folder) / f"{world}-{size}", Team(rank, world, TIMEOUT), keep=1)
        if rank == 0:
            saver.out.mkdir(parents=True)
        held, whole = [], []
        for step in range(6):
            together(world)
            begin = time.perf_counter()
            saver.save(Position(step=step), states)
            held.append(time.perf_counter() - begin)
            saver.wait()
            whole.append(time.perf_counter() - begin)
        found[str(size)] = {
            "held_up_s": statistics.median(held[1:]),
            "written_s": statistics.median(whole[1:]),
        }
    return found


def serve(rank: int, world: int, store: str, folder: str, rounds: int, queue: Any) -> None:
    """All measurements on one rank."""
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=world)
    found = {
        "steps": steps(rank, world, rounds),
        "all_reduce_s": all_reduces(world) if world > 1 else {},
        "probe": probe(rank, world),
        "checkpoints": checkpoints(rank, world, folder),
    }
    queue.put((rank, found))
    if world > 1:
        dist.destroy_process_group()


def measured(world: int, rounds: int) -> list[dict[str, Any]]:
    """What each rank found."""
    context = mp.get_context("spawn")
    queue = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        arguments = (world, f"{folder}/store", folder, rounds, queue)
        ranks = [context.Process(target=serve, args=(r, *arguments)) for r in range(world)]
        for process in ranks:
            process.start()
        found = dict(queue.get(timeout=900) for _ in ranks)
        for process in ranks:
            process.join()
    return [found[rank] for rank in range(world)]


def summary(world: int, ranks: list[dict[str, Any]]) -> dict[str, Any]:
    """The numbers of one world size."""
    clock = {k: [t[0] for t in v] for k, v in ranks[0]["steps"].items()}
    used = {
        name: [
            sum(t[1] for t in row) for row in zip(*(r["steps"][name] for r in ranks), strict=True)
        ]
        for name in clock
    }
    own = {k: statistics.median(t[2] for t in v) for k, v in ranks[0]["steps"].items()}
    gradient, whole = zip(*ranks[0]["probe"], strict=True)
    return {
        "world": world,
        "sgd_step_ms": 1e3 * statistics.median(clock["SGD"]),
        "apart_step_ms": 1e3 * statistics.median(clock["apart"]),
        "clr_step_ms": 1e3 * statistics.median(clock["CLR"]),
        "sgd_own_ms": 1e3 * own["SGD"],
        "clr_own_ms": 1e3 * own["CLR"],
        "clr_adds_percent": 100 * (own["CLR"] - own["SGD"]) / statistics.median(clock["SGD"]),
        "clr_to_sgd_clock": paired_ratio(clock["CLR"], clock["SGD"]),
        "clr_to_sgd_processor": paired_ratio(used["CLR"], used["SGD"]),
        "all_reduce_ms": {k: 1e3 * v for k, v in ranks[0]["all_reduce_s"].items()},
        "probe_to_gradient": paired_ratio(list(whole), list(gradient)),
        "checkpoints": ranks[0]["checkpoints"],
    }


def model(rows: list[dict[str, Any]]) -> list[dict[str, float]]:
    """DDP's step times as docs/scaling.md predicts them: that of processes apart, and an exchange.

    The exchange is read off the all-reduces by size, between which it is linear.
    """
    gradient = sum(p.numel() for p in resnet8().parameters())
    compared = []
    for row in rows:
        exchange = 0.0
        if row["world"] > 1:
            low, high = row["all_reduce_ms"]["1000"], row["all_reduce_ms"]["100000"]
            exchange = low + (high - low) * gradient / 1e5
        line = {"world": row["world"], "exchange_ms": exchange}
        line |= {"predicted_ms": row["apart_step_ms"] + exchange}
        compared.append({**line, "measured_ms": row["sgd_step_ms"]})
    return compared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--worlds", type=int, nargs="*", default=[1, 2, 4])
    options = parser.parse_args()
    rows = [summary(world, measured(world, options.rounds)) for world in options.worlds]
    for row in rows:
        print(
            f"{row['world']} processes: SGD {row['sgd_step_ms']:.1f} ms, "
            f"CLR's own part {row['clr_own_ms']:.2f} ms against {row['sgd_own_ms']:.2f} "
            f"(+{row['clr_adds_percent']:.2f} % of a step), CLR / SGD {row['clr_to_sgd_clock']} "
            f"by the clock, {row['clr_to_sgd_processor']} "
            f"by processor time, probe {row['probe_to_gradient']['ratio']} gradients"
        )
        print("   all-reduce, ms:", {k: round(v, 3) for k, v in row["all_reduce_ms"].items()})
        print("   checkpoint:", row["checkpoints"])
    compared = model(rows)
    for line in compared:
        print({k: round(v, 1) for k, v in line.items()})
    write_results("processes", {"rounds": options.rounds, "rows": rows, "model": compared})


if __name__ == "__main__":
    main()
