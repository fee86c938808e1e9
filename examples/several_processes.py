"""CLR over several processes: the loop of one process, and one step size for all.

    torchrun --nproc-per-node 2 examples/several_processes.py            data parallel
    torchrun --nproc-per-node 2 examples/several_processes.py sharded    FSDP2

The step averages the loss over the processes, as data parallelism averages gradients, and sums the
squared norm over shards, in one all-reduce of a few numbers. Alone it runs, too.
"""

import os
import sys

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from corridor import CLR


def main(steps: int = 200, sharded: bool = False) -> float:
    """Learn the sum of eight numbers; returns the last loss of this process."""
    together = "WORLD_SIZE" in os.environ
    if together:
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    rank, world = (dist.get_rank(), dist.get_world_size()) if together else (0, 1)
    torch.manual_seed(0)  # the same weights everywhere
    model: torch.nn.Module = torch.nn.Sequential(
        torch.nn.Linear(8, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1)
    )
    if together:
        model = fully_shard(model) if sharded else DistributedDataParallel(model)
    opt = CLR(model.parameters(), momentum=0.9)
    mine = torch.Generator().manual_seed(1 + rank)  # other batches on every rank
    loss = torch.tensor(0.0)
    for _ in range(steps):
        x = torch.randn(128 // world, 8, generator=mine)
        opt.zero_grad()
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        opt.step(loss=loss)
    return loss.item()


if __name__ == "__main__":
    print(main(sharded="sharded" in sys.argv))
    if dist.is_initialized():  # once the model is gone, which may still talk to the others
        dist.destroy_process_group()
