"""Jobs for ranks beside the table of layouts."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from tests.distributed.layouts import LAYOUTS, Layout, Record, batch, laid_out, steps, weights
from tests.relatives import RELATIVES
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from corridor import CLR
from corridor.optim import DAL


def save(folder: str, name: str) -> Record:
    """Three steps on two FSDP2 ranks, saved by DCP."""
    layout = LAYOUTS["FSDP2, 2"]
    model = laid_out(layout)
    opt = RELATIVES[name](model.parameters())
    record = steps(model, opt, layout, 0, 3)
    model_state, optimizer_state = get_state_dict(model, opt)
    dcp.save({"model": model_state, "optimizer": optimizer_state}, checkpoint_id=folder)
    return record


def load(folder: str, name: str, layout: Layout) -> Record:
    """Load into fresh objects on any number of ranks, and take three steps more."""
    model = laid_out(layout)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    opt = RELATIVES[name](model.parameters())
    model_state, optimizer_state = get_state_dict(model, opt)
    saved = {"model": model_state, "optimizer": optimizer_state}
    dcp.load(saved, checkpoint_id=folder)
    set_state_dict(model, opt, model_state_dict=saved["model"], optim_state_dict=saved["optimizer"])
    return steps(model, opt, layout, 3, 6)


def straight(name: str) -> Record:
    """Six steps in one process."""
    layout = LAYOUTS["one process"]
    model = laid_out(layout)
    opt = RELATIVES[name](model.parameters())
    steps(model, opt, layout, 0, 3)
    return steps(model, opt, layout, 3, 6)


def spoilt(layout: Layout, where: str, name: str) -> tuple[bool, int, dict[str, Tensor]]:
    """One good step, one with a number spoilt on the last rank alone, one good step.

    Returns:
        Whether the spoilt step left the weights as they were, the skipped steps, the last weights.
    """
    model = laid_out(layout)
    opt = RELATIVES[name](model.parameters())
    steps(model, opt, layout, 0, 1)
    before = weights(model)
    x, y = batch(1, layout)
    opt.zero_grad()
    loss = (model(x) - y).square().mean()
    loss.backward()
    if dist.get_rank() == dist.get_world_size() - 1:
        if where == "loss":
            loss = loss.detach() * math.nan
        else:
            _spoil(model)
    opt.step(loss=loss)
    kept = all(torch.equal(before[key], value) for key, value in weights(model).items())
    steps(model, opt, layout, 2, 3)
    return kept, int(opt.param_groups[0]["skipped"]), weights(model)


def _spoil(model: nn.Module) -> None:
    """Make one entry of this rank's gradients infinite."""
    grad = next(p.grad for p in model.parameters() if p.grad is not None)
    local = grad.to_local() if isinstance(grad, DTensor) else grad
    local.view(-1)[0] = math.inf


def accumulated(layout: Layout) -> Record:
    """Two micro-batches per step, each after an attack; gradients exchanged after the second."""
    model = laid_out(layout)
    opt = CLR(model.parameters(), momentum=0.9)
    sizes = []
    for k in range(4):
        x, y = batch(k, layout)
        opt.zero_grad()
        for i, (some, answers) in enumerate(zip(x.chunk(2), y.chunk(2), strict=True)):
            _exchange(model, i == 1)
            _attack(opt, model, some, answers)
            loss = (model(some) - answers).square().mean()
            (opt.watch(loss) / 2).backward()
        opt.step()
        sizes.append([float(opt.param_groups[0]["effective_lr"])])
    return Record(sizes, [], weights(model), 0)


def _attack(opt: CLR, model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Differentiate a watched loss by the inputs alone, which must not count."""
    x = x.clone().requires_grad_()
    torch.autograd.grad(opt.watch((model(x) - y).square().mean()), x)


def _exchange(model: nn.Module, wanted: bool) -> None:
    if isinstance(model, DistributedDataParallel):
        model.require_backward_grad_sync = wanted
    elif hasattr(model, "set_requires_gradient_sync"):
        model.set_requires_gradient_sync(wanted)


def alone() -> list[list[float]]:
    """Each rank trains a network of its own on data of its own."""
    layout = LAYOUTS["DDP, 2"]
    model = laid_out(LAYOUTS["one process"])
    opt = CLR(model.parameters(), average_loss=False)
    return steps(model, opt, layout, 0, 3).steps


def alone_outside_of_a_group(index: int) -> list[list[float]]:
    """What rank ``index`` of `alone` does, with nobody beside it."""
    layout = Layout(1, 2, "plain")
    model = laid_out(LAYOUTS["one process"])
    opt = CLR(model.parameters())
    sizes = []
    for k in range(3):
        x, y = (t.chunk(2)[index] for t in batch(k, Layout(1, 1, "plain")))
        opt.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        opt.step(loss=loss)
        sizes.append([float(opt.param_groups[0]["effective_lr"])])
    assert layout.replicas == 2
    return sizes


def scaled(layout: Layout) -> list[Any]:
    """Loss scaling; in the first step a gradient overflows in the last rank's memory alone."""
    model = laid_out(layout)
    opt = CLR(model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    seen = []
    for k in range(4):
        x, y = batch(k, layout)
        opt.zero_grad()
        loss = (model(x) - y).square().mean()
        scaler.scale(loss).backward()
        if k == 0 and dist.get_rank() == dist.get_world_size() - 1:
            _spoil(model)
        scaler.step(opt, loss=loss.detach())
        scaler.update()
        group = opt.param_groups[0]
        seen.append((float(group["effective_lr"]), int(group["skipped"]), scaler.get_scale()))
    return seen


def drift_adjusted(layout: Layout) -> tuple[list[float], float, dict[str, Tensor]]:
    """DAL: step sizes, this rank's own first ratio, last weights."""
    model = laid_out(layout)
    opt = DAL(model.parameters())
    sizes, own = [], 0.0
    for k in range(3):
        x, y = batch(k, layout)
        opt.zero_grad()
        loss = opt.watch((model(x) - y).square().mean())
        loss.backward()
        own = own or float(opt._channel.pending[0].measured["hessian_ratio"])
        opt.step()
        sizes.append(float(opt.param_groups[0]["effective_lr"]))
    return sizes, own, weights(model)


def refused_by_dal(layout: Layout) -> str:
    """What DAL says of sharded parameters."""
    model = laid_out(layout)
    x, y = batch(0, layout)
    try:
        DAL(model.parameters()).watch((model(x) - y).square().mean())
    except ValueError as error:
        return str(error)
    return ""
