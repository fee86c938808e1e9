"""Cost of a measurement, in gradients: corridor's engines and published packages on the same call.

    pip install --no-deps --target .venv/rivals -r benchmarks/rivals.txt
    PYTHONPATH=.venv/rivals python benchmarks/hg_cost.py [--rounds 15] [--threads 1]

The call is: loss, g and Hg of one batch. `measure` adds every field of the measures. By operations,
with F for a forward pass, a gradient is 3 F and (g, Hg) by double backward 9 F: three gradients.
Times are of the process on its cores, ratios are medians of paired rounds. Memory is the peak of
what torch allocates during the call. Errors are relative, against Hg in float64. The transformer's
gradient uses fused attention, which no Hg can; "plain attention" is the gradient without it, and
what the rivals are run with, since they fail otherwise. The last line of a network is the share
that a `Probe` takes of a CLR training at its default cadence.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from typing import Any

import torch
from common import interleave, paired_ratio, write_results
from networks import PROBLEMS, Problem
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

import corridor
from corridor.geometry import jet

Hg = list[Tensor]
CADENCE = 100


def ours(problem: Problem) -> dict[str, Callable[[], Hg]]:
    """Corridor's own calls; those that give numbers only have no vector to compare."""
    params = list(problem.model.parameters())

    def by(engine: str) -> Callable[[], Hg]:
        return lambda: jet(problem.closure, params, engine=engine).hessian_gradient

    def measured(**options: Any) -> Callable[[], Hg]:
        def call() -> Hg:
            corridor.measure(problem.closure, params, **options).as_dict()
            return []

        return call

    n = len(problem.targets) // 4
    parts = list(zip(problem.inputs.chunk(4), problem.targets.split(n), strict=True))

    def in_parts() -> Hg:
        corridor.measure_dataset(
            problem.model, nn.functional.cross_entropy, parts, batch_products=False
        ).as_dict()
        return []

    return {
        "corridor.measure": measured(),
        "measure_dataset, 4 parts": in_parts,
        "corridor.measure, step": measured(step=0.1),
        "double_backward": by("double_backward"),
        "forward_over_reverse": by("forward_over_reverse"),
        "central_differences": by("central_differences"),
    }


def curvlinops(problem: Problem, check: bool) -> Callable[[], Hg]:
    """H @ g of curvlinops, which takes g from elsewhere."""
    from curvlinops import HessianLinearOperator

    params = list(problem.model.parameters())

    def call() -> Hg:
        g = [t.detach() for t in problem.gradient()]
        data = [(problem.inputs, problem.targets)]
        operator = HessianLinearOperator(
            problem.model, nn.CrossEntropyLoss(), params, data, check_deterministic=check
        )
        return operator @ g

    return call


def eigenthings(problem: Problem) -> Callable[[], Hg]:
    """The product of hessian-eigenthings, which takes g from elsewhere."""
    from hessian_eigenthings.operators.hessian import HessianOperator

    params = list(problem.model.parameters())

    def call() -> Hg:
        g = torch.cat([t.detach().reshape(-1) for t in problem.gradient()])
        operator = HessianOperator(
            problem.model,
            [(problem.inputs, problem.targets)],
            lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1]),
        )
        parts = operator.matvec(g).split([p.numel() for p in params])
        return [part.view_as(p) for part, p in zip(parts, params, strict=True)]

    return call


def pyhessian(problem: Problem) -> Callable[[], Hg]:
    """PyHessian's gradient and product; it puts the model into evaluation mode and leaves it so."""
    from pyhessian import hessian
    from pyhessian.utils import hessian_vector_product

    data = (problem.inputs, problem.targets)

    def call() -> Hg:
        found = hessian(problem.model, nn.CrossEntropyLoss(), data=data, cuda=False)
        g = [t.detach() for t in found.gradsH]
        product = hessian_vector_product(found.gradsH, found.params, g)
        for p in problem.model.parameters():
            p.grad = None  # else the next call adds to it, and the graph is never freed
        return list(product)

    return call


def rivals(problem: Problem) -> dict[str, Callable[[], Hg]]:
    """Each on a copy of its own, since some change the model, and with the attention it needs."""
    own = [copy.deepcopy(problem) for _ in range(4)]
    calls = {
        "curvlinops, unchecked": curvlinops(own[0], check=False),
        "curvlinops, default": curvlinops(own[1], check=True),
        "hessian-eigenthings": eigenthings(own[2]),
        "PyHessian": pyhessian(own[3]),
    }
    return {name: with_plain_attention(call) for name, call in calls.items()}


def peak_bytes(call: Callable[[], Any]) -> int:
    """The most that torch held during a call beyond what it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]  # pyright: ignore
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def with_plain_attention(call: Callable[[], Any]) -> Callable[[], Any]:
    """The call with attention that can be differentiated twice."""

    def wrapped() -> Any:
        with sdpa_kernel(SDPBackend.MATH):
            return call()

    return wrapped


def in_evaluation_mode(problem: Problem) -> Callable[[], Hg]:
    """Hg of the loss that PyHessian measures, its model being in evaluation mode."""
    twin = copy.deepcopy(problem)
    twin.model.eval()
    params = list(twin.model.parameters())
    return lambda: jet(twin.closure, params).hessian_gradient


def training(problem: Problem) -> dict[str, Callable[[], Any]]:
    """A step of CLR, and a probe's measurement of its loss."""
    twin = copy.deepcopy(problem)
    optimizer = corridor.CLR(twin.model.parameters(), max_lr=1e-6)  # stays where it is
    probe = corridor.Probe(twin.model)

    def step() -> None:
        loss = twin.closure()
        loss.backward()
        optimizer.step(loss=loss)
        optimizer.zero_grad()

    return {"CLR step": step, "Probe": lambda: probe.now(twin.closure, 0)}


def error(found: Hg, exact: Hg) -> float | None:
    if not found:
        return None
    pairs = list(zip(found, exact, strict=True))
    off = sum(float((a.double() - b).square().sum()) for a, b in pairs)
    return (off / sum(float(b.square().sum()) for _, b in pairs)) ** 0.5


def row(name: str, problem: Problem, rounds: int) -> list[dict[str, Any]]:
    twin = problem.double()
    exact = jet(twin.closure, twin.model.parameters()).hessian_gradient
    calls: dict[str, Callable[[], Any]] = {"gradient": problem.gradient, **ours(problem)}
    if name == "transformer":
        calls["gradient, plain attention"] = with_plain_attention(problem.gradient)
    if "norm" in name:
        calls["double_backward, evaluation"] = in_evaluation_mode(problem)
    failures = {}
    for rival, call in rivals(problem).items():
        try:
            call()
            calls[rival] = call
        except Exception as mistake:  # what it cannot do is a result, too
            failures[rival] = " ".join(str(mistake).split())[:120]
    seconds = interleave({**calls, **training(problem)}, rounds, clock=time.process_time)
    unit, memory = seconds["gradient"], peak_bytes(problem.gradient)
    rows = []
    for method, call in calls.items():
        off = None if method.startswith("gradient") else error(call(), exact)
        entry = {"method": method, **paired_ratio(seconds[method], unit)}
        entry |= {"memory": round(peak_bytes(call) / memory, 2), "error": off}
        rows.append({"network": name, **entry})
        shown = "" if off is None else f"error {off:.0e}"
        print(
            f"{name:20s} {method:24s} {entry['ratio']:6.2f} x "
            f"[{entry['lower_quartile']:.2f}, {entry['upper_quartile']:.2f}]  "
            f"memory {entry['memory']:5.2f} x  {shown}"
        )
    share = paired_ratio(seconds["Probe"], seconds["CLR step"])["ratio"] / CADENCE
    rows.append({"network": name, "method": f"Probe every {CADENCE} steps", "share": share})
    print(f"{name:20s} Probe every {CADENCE} steps: {share:.1%} of the training")
    for method, reason in failures.items():
        rows.append({"network": name, "method": method, "fails": reason})
        print(f"{name:20s} {method:24s} fails: {reason}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for name, make in PROBLEMS.items():
        torch.manual_seed(0)
        rows += row(name, make(), options.rounds)
    write_results("hg_cost", {"rounds": options.rounds, "clock": "process time", "rows": rows})


if __name__ == "__main__":
    main()
