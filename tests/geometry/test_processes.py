"""Compare results over two processes with those of one process on all the data."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tests.geometry import oracle
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from corridor import CLR
from corridor.geometry import Probe, measure, measure_dataset

WORLD = 2


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def data(n: int = 24) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, 3, (n,), generator=generator)


def uneven() -> list[tuple[Tensor, Tensor]]:
    x, y = data()
    sizes = [5, 4, 7, 3, 5]
    return list(zip(x.split(sizes), y.split(sizes), strict=True))


def local(rank: int) -> tuple[Tensor, Tensor]:
    x, y = data()
    return x[rank::WORLD], y[rank::WORLD]


def replicated(rank: int) -> dict[str, float]:
    """Measure under DDP, half of the data per rank, then make an ordinary step."""
    model = DistributedDataParallel(network())
    x, y = local(rank)
    found: dict[str, float] = {}
    for engine in ("double_backward", "forward_over_reverse", "central_differences"):
        values = measure(
            lambda: cross_entropy(model(x), y), model, step=0.3, engine=engine, across_ranks=True
        ).as_dict(engine + " ")
        found |= values
    own = measure(lambda: cross_entropy(model(x), y), model)
    found["own grad_norm"] = float(own.grad_norm)
    cross_entropy(model(x), y).backward()
    found["trains on"] = float(next(model.parameters()).grad.norm())  # pyright: ignore
    return found


def measured_steps(rank: int) -> dict[str, float]:
    """Train under DDP with a static graph, by a measuring optimizer, by SGD, and by SGD probed."""
    x, y = local(rank)
    found: dict[str, float] = {}
    for name in ("drift", "plain", "probed"):
        model = DistributedDataParallel(network(), static_graph=True)
        params = list(model.parameters())
        probe = Probe(model, every=1, curvature=True, across_ranks=True)
        opt = CLR(params, drift=0.1) if name == "drift" else torch.optim.SGD(params, lr=0.1)
        for _ in range(3):
            if name == "probed":
                probe(lambda model=model: cross_entropy(model(x), y))
            opt.zero_grad()
            loss = cross_entropy(model(x), y)
            if isinstance(opt, CLR):
                opt.watch(loss)
            loss.backward()
            opt.step()
        weights = oracle.flat([p.detach() for p in params])
        found |= {f"{name} {i}": float(v) for i, v in enumerate(weights)}
    return found


def refused(rank: int) -> dict[str, float]:
    """Give each rank a part of the parameters, as ZeroRedundancyOptimizer and FSDP1 do."""
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.optim import ZeroRedundancyOptimizer

    x, y = local(rank)
    flat = FullyShardedDataParallel(network(), device_id=torch.device("cpu"))
    model = DistributedDataParallel(network())
    zero = ZeroRedundancyOptimizer(model.parameters(), CLR)
    for part, opt in ((flat, CLR(flat.parameters())), (model, zero)):
        loss = cross_entropy(part(x), y)
        loss.backward()
        with pytest.raises(ValueError, match="params must be whole and equal on all ranks"):
            opt.step(lambda loss=loss: loss)
    return {}


def whole_set(rank: int) -> dict[str, float]:
    """Measure a data set with a different number of batches per rank."""
    parts = uneven()[:2] if rank == 0 else uneven()[2:]
    return measure_dataset(network(), cross_entropy, parts, step=0.3).as_dict()


def sharded(rank: int) -> dict[str, float]:
    """Measure under FSDP2, which allows central differences only."""
    from torch.distributed.fsdp import fully_shard

    model = network()
    fully_shard(model)
    x, y = local(rank)
    found = measure(lambda: cross_entropy(model(x), y), model, step=0.3)
    assert found.engine.name == "central_differences"
    assert "sharded" in found.engine.why
    assert all(p.grad is None for p in model.parameters())
    return found.as_dict()


@contextmanager
def rank_of_two(rank: int, port: int) -> Iterator[None]:
    limit = timedelta(seconds=120)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", address, rank=rank, world_size=WORLD, timeout=limit)
    try:
        yield
    finally:
        dist.destroy_process_group()


def _second(job: Any, port: int, queue: Any) -> None:
    torch.set_num_threads(1)
    with rank_of_two(1, port):
        queue.put(job(1))


def on_two_ranks(job: Any) -> tuple[dict[str, float], dict[str, float]]:
    """Run a job as rank 0 in this process and as rank 1 in a new one."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    context = mp.get_context("spawn")
    queue = context.Queue()
    worker = context.Process(target=_second, args=(job, port, queue))
    worker.start()
    with rank_of_two(0, port):
        first = job(0)
    second = queue.get(timeout=120)
    worker.join(60)
    assert worker.exitcode == 0
    return first, second


def alone() -> dict[str, float]:
    model, (x, y) = network(), data()
    return measure(lambda: cross_entropy(model(x), y), model, step=0.3).as_dict()


@pytest.mark.slow
def test_every_engine_under_ddp_finds_what_one_process_does():
    first, second = on_two_ranks(replicated)
    expected = alone()
    for engine, tolerance in (
        ("double_backward", oracle.rounding(1e6)),
        ("forward_over_reverse", oracle.rounding(1e6)),
        ("central_differences", 100.0 * oracle.differencing()),
    ):
        for name, value in expected.items():
            assert first[f"{engine} {name}"] == pytest.approx(value, rel=tolerance), name
    together = [k for k in first if " " in k and not k.startswith("own")]
    assert {k: first[k] for k in together} == {k: second[k] for k in together}
    assert first["own grad_norm"] != pytest.approx(expected["grad_norm"], rel=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_a_measurement_is_not_the_first_pass_of_a_static_graph():
    first, second = on_two_ranks(measured_steps)
    assert first == second
    values = [[v for k, v in first.items() if k.startswith(name)] for name in ("plain", "probed")]
    assert values[0] == values[1]


@pytest.mark.filterwarnings("ignore")
def test_parts_of_the_parameters_are_refused_at_the_first_step():
    assert on_two_ranks(refused) == ({}, {})


def test_a_data_set_spread_over_ranks():
    first, second = on_two_ranks(whole_set)
    expected = measure_dataset(network(), cross_entropy, uneven(), step=0.3).as_dict()
    assert first == second
    for name, value in expected.items():
        assert first[name] == pytest.approx(value, rel=oracle.rounding(1e6)), name


@pytest.mark.slow
def test_sharded_parameters_go_to_central_differences():
    first, second = on_two_ranks(sharded)
    assert first == second
    expected = alone()
    for name, value in expected.items():
        assert first[name] == pytest.approx(value, rel=100.0 * oracle.differencing()), name
