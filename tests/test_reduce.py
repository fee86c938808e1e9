from __future__ import annotations

import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from corridor import CLR
from corridor._reduce import over_ranks


def test_alone_nothing_is_shared():
    value = torch.tensor(2.0)
    loss, sums = over_ranks(value, None, average_loss=True)
    assert loss is value
    assert float(sums) == 0.0


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _train(rank: int, world: int, port: int, queue) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    torch.manual_seed(0)
    model = DistributedDataParallel(torch.nn.Linear(4, 2))
    opt = CLR(model.parameters(), momentum=0.9)
    for k in range(5):
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(k))[rank::world]
        opt.zero_grad()
        loss = (model(x) - x[:, :2]).square().mean()
        loss.backward()
        opt.step(loss=loss)
    queue.put((rank, model.module.weight.detach().flatten().tolist()))
    dist.destroy_process_group()


def test_data_parallel_ranks_stay_identical_and_equal_one_process():
    results = {}
    for world in (1, 2):
        context = mp.get_context("spawn")
        queue = context.Queue()
        port = _free_port()
        workers = [
            context.Process(target=_train, args=(r, world, port, queue)) for r in range(world)
        ]
        for worker in workers:
            worker.start()
        results[world] = dict(queue.get(timeout=120) for _ in workers)
        for worker in workers:
            worker.join(60)
            assert worker.exitcode == 0
    assert results[2][0] == results[2][1]
    torch.testing.assert_close(
        torch.tensor(results[2][0]), torch.tensor(results[1][0]), rtol=1e-5, atol=1e-6
    )
