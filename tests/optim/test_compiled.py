"""The update as one graph: torch.compile with fullgraph, and what a CUDA graph needs."""

from __future__ import annotations

import math

import pytest
import torch
from tests.optim.test_tensors import CountReads
from tests.relatives import RELATIVES
from torch._subclasses.fake_tensor import FakeTensorMode

from corridor import CLR, CLRAdam
from corridor.optim import DAL
from corridor.optim._loss import Watched

# Those whose step differs in code: each motion, each rule that keeps scalars, and NGN's own cap.
DIFFERENT = [
    "CLR",
    "CLR, momentum",
    "HalfPolyak, refined",
    "SPSMax, momentum",
    "NGN",
    "DecSPS",
    "AdaSPS",
    "MoMo, bound estimated",
    "MoMoAdam",
]
MEASURING = {
    "CLR, drift and momentum": lambda p, **o: CLR(p, drift=0.5, momentum=0.9, **o),
    "CLRAdam": CLRAdam,
    "DAL": DAL,
}


def parameters(dtype: torch.dtype = torch.float32) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(s, generator=generator).to(dtype)) for s in ((4, 3), 7)]


def gradients(params: list[torch.nn.Parameter], k: int) -> None:
    generator = torch.Generator().manual_seed(k)
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator)


@pytest.mark.parametrize("name", DIFFERENT)
def test_the_whole_step_compiles_without_a_break_and_once(name: str):
    """Without momentum and with it, good steps and a skipped one, by the same graph."""
    torch._dynamo.reset()
    plain, compiled = parameters(), parameters()
    opts = [RELATIVES[name](p, weight_decay=0.1) for p in (plain, compiled)]
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    # The class' own step, without the hooks that torch puts around an instance's.
    raw = type(opts[1]).step.__wrapped__
    step = torch.compile(lambda loss: raw(opts[1], loss=loss), fullgraph=True, backend=backend)
    for k in range(5):
        for params in (plain, compiled):
            gradients(params, k)
        loss = torch.tensor(math.nan if k == 2 else 1.0 + k)
        opts[0].step(loss=loss)
        step(loss)
        for p, q in zip(plain, compiled, strict=True):
            torch.testing.assert_close(q, p, rtol=1e-4, atol=1e-5)
    for opt in opts:
        assert int(opt.param_groups[0]["skipped"]) == 1
    # One for the first step, which makes the buffers, one for all that follow.
    assert len(graphs) <= 2


@pytest.mark.parametrize("name", MEASURING)
def test_steps_that_measure_compile_without_a_break_and_once_each(name: str):
    """Watched losses, some of them measured, one of them NaN."""
    torch._dynamo.reset()
    plain, compiled = parameters(), parameters()
    opts = [MEASURING[name](p, every=2, weight_decay=0.1) for p in (plain, compiled)]
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    raw = type(opts[1]).step.__wrapped__
    step = torch.compile(lambda: raw(opts[1]), fullgraph=True, backend=backend)
    for k in range(9):
        for params, opt in zip((plain, compiled), opts, strict=True):
            opt.zero_grad()
            loss = sum((p.square() * (1.0 + k) + p.pow(4)).sum() for p in params)
            opt.watch(loss * math.nan if k == 2 else loss).backward()
        opts[0].step()
        step()
        for p, q in zip(plain, compiled, strict=True):
            torch.testing.assert_close(q, p, rtol=1e-4, atol=1e-5)
    for opt in opts:
        assert int(opt.param_groups[0]["skipped"]) == 1
        assert int(opt.param_groups[0]["steps_seen"]) == 9
    # With a measurement and without one, each after the first step, which makes the buffers.
    assert len(graphs) <= 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CLR", "CLR, momentum", "MoMoAdam"])
def test_inductors_code_takes_the_same_steps(name: str):
    torch._dynamo.reset()
    plain, compiled = parameters(), parameters()
    opts = [RELATIVES[name](p) for p in (plain, compiled)]
    raw = type(opts[1]).step.__wrapped__
    step = torch.compile(lambda loss: raw(opts[1], loss=loss), fullgraph=True)
    for k in range(4):
        for params in (plain, compiled):
            gradients(params, k)
        opts[0].step(loss=torch.tensor(1.0))
        step(torch.tensor(1.0))
    for p, q in zip(plain, compiled, strict=True):
        torch.testing.assert_close(q, p, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", RELATIVES)
def test_a_step_never_waits_for_the_device(name: str, device: str):
    """On fake CUDA tensors any host read raises; on the CPU it is counted."""
    with FakeTensorMode():
        params = [torch.nn.Parameter(torch.empty(n, 3, device=device)) for n in (5, 9000)]
        opt = RELATIVES[name](params, weight_decay=0.1)
        for p in params:
            p.grad = torch.empty_like(p)
        with CountReads() as count:
            for _ in range(2):
                opt.step(loss=torch.empty((), device=device))
    assert count.reads == 0


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", MEASURING)
def test_a_step_that_measured_never_waits_for_the_device(name: str, device: str):
    with FakeTensorMode():
        p = torch.nn.Parameter(torch.empty(9, 3, device=device))
        opt = MEASURING[name]([p])
        p.grad = torch.empty_like(p)
        one = torch.empty((), device=device)
        with CountReads() as count:
            for measured in ({"hessian_ratio": one, "share": one}, {}):
                opt._channel.pending.append(Watched(one, one, None, measured, [p]))
                opt.step()
    assert count.reads == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", RELATIVES)
def test_a_cuda_graph_replays_the_step(name: str):
    """Captured once, replayed on new losses and gradients in the same memory."""
    ends = []
    for captured in (False, True):
        params = [torch.nn.Parameter(p.detach().cuda()) for p in parameters()]
        opt = RELATIVES[name](params)
        loss = torch.ones((), device="cuda")
        for p in params:
            p.grad = torch.zeros_like(p)
        graph = torch.cuda.CUDAGraph()
        for k in range(6):
            for p in params:
                p.grad.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(k)))
            loss.fill_(1.0 + k)
            if captured and k == 3:
                with torch.cuda.graph(graph):
                    opt.step(loss=loss)
                graph.replay()
            elif captured and k > 3:
                graph.replay()
            else:
                opt.step(loss=loss)
        torch.cuda.synchronize()
        ends.append([p.detach().clone() for p in params])
    for p, q in zip(*ends, strict=True):
        torch.testing.assert_close(q, p, rtol=1e-4, atol=1e-5)
