"""Run the robustness table: every optimizer on every case that breaks others of its kind.

    python -m tests.robustness        writes docs/robustness.md

Each row states the right outcome. `tests/optim/test_robustness.py` runs all rows on all optimizers.
"""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tests.pages import write_table
from tests.relatives import RELATIVES
from torch import Tensor, nn

PAGE = Path(__file__).parents[1] / "docs" / "robustness.md"
Make = Callable[..., Any]

NO_STEP, SKIPPED, STEP = "no step", "skipped and counted", "a finite step"
GRAD = [0.6, -0.8, 3.0, 1.0]


class Row(NamedTuple):
    """Hold a check and its right outcome."""

    check: Callable[[Make], str]
    right: str


def _parameter(grad: Any = GRAD, dtype: torch.dtype = torch.float64) -> nn.Parameter:
    p = nn.Parameter(torch.tensor([1.0, 2.0, -1.0, 0.5], dtype=dtype))
    p.grad = torch.as_tensor(grad, dtype=dtype).clone()
    return p


def _outcome(p: nn.Parameter, before: Tensor, opt: Any) -> str:
    if not bool(p.isfinite().all()):
        return "NaN"
    if torch.equal(p.detach(), before):
        return SKIPPED if int(opt.param_groups[0]["skipped"]) else NO_STEP
    step = before - p.detach()
    uphill = float((step * p.grad).sum()) < 0.0
    return "uphill" if uphill else STEP


def _one_step(loss: float, grad: Any = GRAD) -> Callable[[Make], str]:
    def check(make: Make) -> str:
        p = _parameter(grad)
        before = p.detach().clone()
        opt = make([p])
        opt.step(loss=loss)
        return _outcome(p, before, opt)

    return check


def _then_good(loss: float, grad: Any = GRAD) -> Callable[[Make], str]:
    """Compare a good step after bad ones with the same step without them."""

    def check(make: Make) -> str:
        ends = []
        for spoilt in (True, False):
            p = _parameter()
            opt = make([p])
            opt.step(loss=1.0)
            for _ in range(3 if spoilt else 0):
                p.grad = torch.as_tensor(grad, dtype=torch.float64)
                opt.step(loss=loss)
            p.grad = torch.tensor(GRAD, dtype=torch.float64)
            opt.step(loss=1.0)
            ends.append(p.detach())
        return "the step it would have been" if torch.equal(*ends) else "another step"

    return check


def _never_frozen(make: Make) -> str:
    """Check that steps resume once there is a gap again."""
    p = _parameter()
    opt = make([p])
    for loss, grad in ((1.0, GRAD), (0.0, GRAD), (-1.0, GRAD), (1.0, [0.0] * 4)):
        p.grad = torch.tensor(grad, dtype=torch.float64)
        opt.step(loss=loss)
    p.grad = torch.tensor(GRAD, dtype=torch.float64)
    for _ in range(30):  # an average has to forget the loss that was under its bound
        opt.step(loss=2.0)
    return STEP if float(opt.param_groups[0]["effective_lr"]) > 0.0 else "frozen"


def _refused(call: Callable[[Any], Any], needle: str) -> Callable[[Make], str]:
    def check(make: Make) -> str:
        opt = make([_parameter()])
        try:
            call(opt)
        except ValueError as error:
            text = str(error)
            return "one line of ValueError" if needle in text and "\n" not in text else text
        return "silence"

    return check


def _closure(make: Make) -> str:
    """Check that a closure is called once, and gives the step of ``step(loss=)``."""
    calls, ends = 0, []
    for by_closure in (True, False):
        p = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
        opt = make([p])

        def run(p: nn.Parameter = p, opt: Any = opt) -> Tensor:
            nonlocal calls
            calls += 1
            opt.zero_grad()
            loss = p.square().sum()
            loss.backward()
            return loss

        if by_closure:
            opt.step(run)
        else:
            opt.step(loss=run())
        ends.append(p.detach())
    return "called once, same step" if calls == 2 and torch.equal(*ends) else "differs"


def _without_gradient(make: Make) -> str:
    p, q = _parameter(), nn.Parameter(torch.ones(2, dtype=torch.float64))
    opt = make([p, q])
    opt.step(loss=1.0)
    return "left alone" if torch.equal(q.detach(), torch.ones(2).double()) else "moved"


def _groups(make: Make) -> str:
    p, q = _parameter(), _parameter()
    opt = make([{"params": [p], "lr": 1e-3}, {"params": [q], "lr": 1e-5}])
    opt.step(loss=100.0)
    sizes = [float(group["effective_lr"]) for group in opt.param_groups]
    return "each its own cap" if sizes[1] < 0.02 * sizes[0] < 1.1e-3 else f"{sizes}"


def _like_float64(dtype: torch.dtype, tolerance: float) -> Callable[[Make], str]:
    """Compare two steps on 200,000 entries in a dtype with float64."""

    def check(make: Make) -> str:
        generator = torch.Generator().manual_seed(0)
        grads = [(torch.randn(200_000, generator=generator) * 0.05).to(dtype) for _ in range(2)]
        sizes = []
        for wide in (dtype, torch.float64):
            p = nn.Parameter(torch.zeros(200_000, dtype=wide))  # swallows no step
            opt = make([p])
            for grad in grads:
                p.grad = grad.to(wide)
                opt.step(loss=1.0)
            sizes.append(float(opt.param_groups[0]["effective_lr"]))
        error = abs(sizes[0] / sizes[1] - 1.0)
        return f"right to {tolerance:g}" if error <= tolerance else f"off by {error:.1e}"

    return check


def _complex(make: Make) -> str:
    """Compare the steps of a complex parameter with those of its real and imaginary parts."""
    z = nn.Parameter(torch.tensor([3.0 + 4.0j, 1.0 - 2.0j], dtype=torch.complex128))
    p = nn.Parameter(torch.view_as_real(z.detach()).clone())
    runs = [(z, make([z])), (p, make([p]))]
    for _ in range(3):
        for x, opt in runs:
            opt.zero_grad()
            loss = x.abs().square().sum()
            loss.backward()
            opt.step(loss=loss)
    alike = torch.allclose(torch.view_as_real(z.detach()), p.detach(), rtol=1e-12)
    return "as pairs of reals" if alike else "differs"


def _sparse(make: Make) -> str:
    table = nn.Embedding(10, 3, sparse=True)
    table(torch.tensor([1, 2])).sum().backward()
    try:
        make(table.parameters()).step(loss=1.0)
    except ValueError as error:
        return "one line of ValueError" if "sparse=False" in str(error) else str(error)
    return "silence"


def _run(p: nn.Parameter, opt: Any, first: int, last: int) -> None:
    for k in range(first, last):
        opt.zero_grad()
        loss = (p - 0.1 * k).square().sum() + 0.5 * p[0] * p[1] + 1.0
        loss.backward()
        opt.step(loss=loss)


def _resumed(copied: Callable[[nn.Parameter, Any, Make], tuple[Any, Any]]) -> Callable:
    def check(make: Make) -> str:
        p = _parameter()
        opt = make([p])
        _run(p, opt, 0, 4)
        q, again = copied(p, opt, make)
        _run(p, opt, 4, 8)
        _run(q, again, 4, 8)
        return "bit for bit" if torch.equal(p.detach(), q.detach()) else "differs"

    return check


def _through_state(p: nn.Parameter, opt: Any, make: Make) -> tuple[nn.Parameter, Any]:
    q = nn.Parameter(p.detach().clone())
    again = make([q])
    again.load_state_dict(copy.deepcopy(opt.state_dict()))
    return q, again


def _scaler(make: Make) -> str:
    """Check that a GradScaler's overflow is skipped, and that later steps ignore the scale."""
    ends = []
    for scale in (2.0**20, None):
        p = nn.Parameter(torch.tensor([3.0, 4.0]))
        opt = make([p])
        scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
        for k in range(3):
            opt.zero_grad()
            loss = p.square().sum()
            scaler.scale(loss).backward()
            if k == 0 and scale:
                p.grad[0] = math.inf
            elif k == 0:
                continue
            scaler.step(opt, loss=loss.detach())
            scaler.update()
        ends.append(p.detach())
    return "overflow skipped, same steps" if torch.allclose(*ends, rtol=1e-5) else "differs"


def _scheduler(make: Make) -> str:
    p = _parameter()
    opt = make([p], **({"sigma": 1e-3} if "NGN" in type(make([p])).__name__ else {"max_lr": 1e-3}))
    schedule = torch.optim.lr_scheduler.StepLR(opt, step_size=1, gamma=0.5)
    sizes = []
    for _ in range(3):
        p.grad = torch.tensor(GRAD, dtype=torch.float64)
        opt.step(loss=1e6)
        schedule.step()
        sizes.append(float(opt.param_groups[0]["effective_lr"]))
    kept = all(0.0 < h <= 1e-3 * 0.5**k * (1.0 + 1e-12) for k, h in enumerate(sizes))
    return "scales the cap" if kept and sizes[0] > 0.99e-3 else f"{sizes}"


def _gradients_kept(make: Make) -> str:
    p = _parameter()
    make([p], weight_decay=0.1).step(loss=1.0)
    return "untouched" if p.grad.tolist() == GRAD else "changed"


def _watched(make: Make) -> str:
    """Compare two watched micro-batches with a step on the mean loss."""
    ends = []
    for parts in (2, 1):
        p = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
        opt = make([p])
        targets = torch.tensor([[1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
        for some in targets.chunk(parts):
            opt.watch((p - some).square().sum(1).mean() / parts).backward()
        opt.step()
        ends.append(p.detach())
    return "the mean loss" if torch.allclose(*ends, rtol=1e-12) else "differs"


NAN, INF = math.nan, math.inf
ROWS: dict[str, Row] = {
    "loss NaN": Row(_one_step(NAN), SKIPPED),
    "loss NaN three times, then a good step": Row(_then_good(NAN), "the step it would have been"),
    "loss infinite": Row(_one_step(INF), SKIPPED),
    "loss infinite, then a good step": Row(_then_good(INF), "the step it would have been"),
    "one entry of the gradient NaN": Row(_one_step(1.0, [0.6, NAN, 3.0, 1.0]), SKIPPED),
    "one entry of the gradient infinite": Row(_one_step(1.0, [0.6, INF, 3.0, 1.0]), SKIPPED),
    "gradient NaN, then a good step": Row(
        _then_good(1.0, [0.6, NAN, 3.0, 1.0]), "the step it would have been"
    ),
    "gradient 0, loss 0.5": Row(_one_step(0.5, [0.0] * 4), NO_STEP),
    "gradient 0, loss 0": Row(_one_step(0.0, [0.0] * 4), NO_STEP),
    "loss under its bound": Row(_one_step(-1.0), NO_STEP),
    "nothing to gain for a while, then something": Row(_never_frozen, STEP),
    "gradient whose square underflows": Row(_one_step(1.0, [1e-200] * 4), NO_STEP),
    "step() without a loss": Row(
        _refused(lambda o: o.step(), "no loss reached"), "one line of ValueError"
    ),
    "step(None)": Row(
        _refused(lambda o: o.step(None), "no loss reached"), "one line of ValueError"
    ),
    "a loss that is not a scalar": Row(
        _refused(lambda o: o.step(loss=torch.ones(2)), "one real number"), "one line of ValueError"
    ),
    "a loss given twice": Row(
        _refused(lambda o: o.step(lambda: 1.0, loss=1.0), "must come once"),
        "one line of ValueError",
    ),
    "a closure that runs backward": Row(_closure, "called once, same step"),
    "watched micro-batches": Row(_watched, "the mean loss"),
    "a parameter without gradient": Row(_without_gradient, "left alone"),
    "two groups with different caps": Row(_groups, "each its own cap"),
    "float32 against float64": Row(_like_float64(torch.float32, 1e-5), "right to 1e-05"),
    "bfloat16 against float64": Row(_like_float64(torch.bfloat16, 2e-2), "right to 0.02"),
    "float16 against float64": Row(_like_float64(torch.float16, 5e-3), "right to 0.005"),
    "complex parameters": Row(_complex, "as pairs of reals"),
    "sparse gradients": Row(_sparse, "one line of ValueError"),
    "state_dict, then resumed": Row(_resumed(_through_state), "bit for bit"),
    "deepcopy": Row(_resumed(lambda p, o, make: copy.deepcopy((p, o))), "bit for bit"),
    "pickle": Row(_resumed(lambda p, o, make: pickle.loads(pickle.dumps((p, o)))), "bit for bit"),
    "GradScaler": Row(_scaler, "overflow skipped, same steps"),
    "LR scheduler": Row(_scheduler, "scales the cap"),
    ".grad after a step": Row(_gradients_kept, "untouched"),
}


def table() -> str:
    """Run every row on every optimizer, and return the page's table."""
    lines = [f"| | {len(RELATIVES)} optimizers |", "|---|---|"]
    for name, row in ROWS.items():
        seen: dict[str, list[str]] = {}
        for optimizer, make in RELATIVES.items():
            seen.setdefault(row.check(make), []).append(optimizer)
        cells = [f"{text} ({', '.join(who)})" for text, who in seen.items()]
        lines.append(f"| {name} | {next(iter(seen)) if len(seen) == 1 else '; '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Write the table into the page between its marks."""
    write_table(PAGE, table())


if __name__ == "__main__":
    main()
