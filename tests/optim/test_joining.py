"""Momentum with parameters that join late or miss steps, and with an f_star that changes."""

from __future__ import annotations

import copy
import functools
import math
import pickle

import pytest
import torch
import torch.distributed.checkpoint as dcp
from tests.optim.conftest import step_sizes
from tests.optim.reference import ReferenceCLR
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)

from corridor import CLR, CLRAdam
from corridor.optim import MoMo, MoMoAdam

BOTH, FIRST, SECOND, NONE = (True, True), (True, False), (False, True), (False, False)
PATTERNS = {
    "joins late": [FIRST] * 8 + [BOTH] * 4,
    "unfrozen alone": [FIRST] * 8 + [SECOND] * 4,
    "alternates": [FIRST, SECOND] * 6,
    "alternates slowly": ([FIRST] * 3 + [SECOND] * 3) * 3,
    "drops out": [BOTH] * 3 + [FIRST] * 5 + [BOTH] * 4,
    "once, then late": [BOTH] + [FIRST] * 8 + [BOTH] * 3,
    "a step without any": [BOTH, NONE, FIRST, NONE, BOTH, BOTH],
}


class Pausing(ReferenceCLR):
    """Fill the gradients of missed steps: by the average, before the first step by that gradient.

    A vector of NaN stands for no gradient. Such a vector does not move, and it is not in ``||d||``.
    """

    def step(self, E: float, g: list[Tensor]) -> None:
        """Fill the history, then step as the twin does."""
        self.present = [not bool(x.isnan().any()) for x in g]
        known = self._known() if self.gradients else [None] * len(g)
        for i, here in enumerate(self.present):
            if here and known[i] is None:
                for past in self.gradients:
                    past[i] = g[i].clone()
            elif not here:
                g[i] = torch.zeros_like(g[i]) if known[i] is None else known[i]
        super().step(E, g)
        self.seen = [a or b for a, b in zip(self.seen, self.present, strict=True)]

    def _known(self) -> list[Tensor | None]:
        rho = sum(self._weights())
        averages = super()._average()
        return [d / rho if seen else None for d, seen in zip(averages, self.seen, strict=True)]

    def _average(self) -> list[Tensor]:
        return [
            d if here else torch.zeros_like(d)
            for d, here in zip(super()._average(), self.present, strict=True)
        ]

    seen: list[bool]
    present: list[bool]


def loss_of(x: list[Tensor]) -> Tensor:
    scales = torch.tensor([1.0, 3.0], dtype=torch.float64)
    return (scales * x[0].square()).sum() + (x[0] * x[1]).sum() + 2.0 * x[1].square().sum() + 3.0


@pytest.mark.parametrize("caps", [(math.inf, math.inf), (0.03, 0.01)], ids=str)
@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_steps_agree_with_a_twin_that_fills_the_missing_gradients(pattern, caps):
    params = [nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in ([2.0, -1.0], [0.5, 3.0])]
    groups = [{"params": [p], "lr": cap} for p, cap in zip(params, caps, strict=True)]
    fast = CLR(groups, momentum=0.9, scale=0.5)
    slow = Pausing([p.detach() for p in params], list(caps), beta=0.9, scale=0.5)
    slow.seen = [False, False]
    for present in pattern:
        fast.zero_grad()
        loss = loss_of(params)
        loss.backward()
        grads = [p.grad.clone() for p in params]
        for i, here in enumerate(present):
            if not here:
                params[i].grad, grads[i] = None, torch.full_like(grads[i], math.nan)
        fast.step(loss=loss)
        slow.step(loss.item(), grads)
        if any(present):
            assert step_sizes(fast) == pytest.approx(slow.h, rel=1e-9)
        for p, theta in zip(params, slow.theta, strict=True):
            torch.testing.assert_close(p.detach(), theta, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
@pytest.mark.parametrize("make", [CLR, MoMo, MoMoAdam], ids=lambda kind: kind.__name__)
def test_a_corridor_is_solved_in_one_step_whoever_takes_it(make, pattern):
    """After any pattern of capped steps, the step of the parameters that are there arrives."""
    p, q = (nn.Parameter(torch.tensor([v], dtype=torch.float64)) for v in (30.0, 20.0))
    opt = make([p, q], max_lr=1e-2, momentum=0.9)
    for present in pattern:
        opt.zero_grad()
        loss = 2.0 * p.sum() + 3.0 * q.sum()
        loss.backward()
        for x, here in zip((p, q), present, strict=True):
            if not here:
                x.grad = None
        opt.step(loss=loss)
    opt.zero_grad()
    opt.param_groups[0]["lr"] = math.inf
    p.requires_grad_(False)
    loss = 2.0 * p.sum() + 3.0 * q.sum()
    loss.backward()
    before = loss.item()
    opt.step(loss=loss)
    assert abs(float(2.0 * p.detach() + 3.0 * q.detach())) < 1e-9 * before


class Two(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.linspace(-2.0, 1.0, 64, dtype=dtype))
        self.q = nn.Parameter(torch.linspace(1.0, 3.0, 64, dtype=dtype))

    def train_on(self, opt, pattern) -> None:
        for present in pattern:
            opt.zero_grad()
            opt.watch((2.0 * self.p.square() + self.p * self.q + self.q.square()).sum()).backward()
            for x, here in zip((self.p, self.q), present, strict=True):
                x.grad = x.grad if here else None
            opt.step()


def loaded(model, opt, new, folder):
    again, other = new()
    again.load_state_dict(model.state_dict())
    other.load_state_dict(opt.state_dict())
    return again, other


def through_dcp(model, opt, new, folder, flat: bool):
    """Save and load as torch.distributed.checkpoint does in a loop of one's own."""
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    saved = get_state_dict(model, opt, options=options)
    dcp.save(dict(zip("mo", saved, strict=True)), checkpoint_id=folder, no_dist=True)
    model, opt = new()
    state = dict(zip("mo", get_state_dict(model, opt, options=options), strict=True))
    dcp.load(state, checkpoint_id=folder, no_dist=True)
    kept = {"model_state_dict": state["m"], "optim_state_dict": state["o"]}
    set_state_dict(model, opt, **kept, options=options)
    return model, opt


WAYS = {
    "state_dict": loaded,
    "DCP": functools.partial(through_dcp, flat=False),
    "DCP, flattened": functools.partial(through_dcp, flat=True),
    "deepcopy": lambda model, opt, new, folder: copy.deepcopy((model, opt)),
    "pickle": lambda model, opt, new, folder: pickle.loads(pickle.dumps((model, opt))),
}


@pytest.mark.filterwarnings("ignore")  # torch's, in its checkpoints
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("make", [CLR, MoMoAdam, CLRAdam], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_parameter_that_rests_is_saved_as_such(way, make, dtype, tmp_path):
    """Interrupted while a parameter rests, the run goes on bit for bit, also to the next stop."""

    def new():
        model = Two(dtype)
        return model, make(model.parameters(), 1e-2, momentum=0.9)

    model, opt = new()
    model.train_on(opt, [BOTH] * 3 + [FIRST] * 2)
    again, other = way(model, opt, new, tmp_path / "first")
    for k, pattern in enumerate(([FIRST], [BOTH], [SECOND, BOTH, FIRST])):
        model.train_on(opt, pattern)
        again.train_on(other, pattern)
        for x, y in zip(model.parameters(), again.parameters(), strict=True):
            assert torch.equal(x, y)
            assert all(
                torch.equal(kept, other.state[y][name]) for name, kept in opt.state[x].items()
            )
        again, other = way(again, other, new, tmp_path / str(k))


def test_a_step_without_a_loss_ends_no_rest():
    """At the cap 0 no loss is required, and no average changes."""
    ends = []
    for paused in (False, True):
        model = Two(torch.float64)
        opt = CLR(model.parameters(), 1e-2, momentum=0.9)
        model.train_on(opt, [BOTH] * 3 + [FIRST] * 2)
        if paused:
            model.p.grad, model.q.grad = torch.ones(64).double(), torch.ones(64).double()
            opt.param_groups[0]["lr"] = 0.0
            opt.step()
            opt.param_groups[0]["lr"] = 1e-2
        model.train_on(opt, [BOTH] * 2)
        ends.append(list(model.parameters()))
    assert all(map(torch.equal, *ends))


def test_a_snapshot_shares_no_tensor_between_its_entries():
    """DCP loads into the tensors of a snapshot, one after the other."""
    model = Two(torch.float64)
    opt = CLR([{"params": [p]} for p in model.parameters()], torch.tensor(1e-2), momentum=0.9)
    model.train_on(opt, [BOTH] * 2)
    saved = opt.state_dict()
    entries = [*saved["state"].values(), *saved["param_groups"]]
    tensors = [v for kept in entries for v in kept.values() if torch.is_tensor(v)]
    assert len({v.untyped_storage().data_ptr() for v in tensors}) == len(tensors)


@pytest.mark.parametrize("rest", [1, 30, 300])
@pytest.mark.parametrize("make", [MoMoAdam, CLRAdam], ids=lambda kind: kind.__name__)
def test_a_parameter_that_rested_moves_no_further_than_the_others(make, rest: int):
    """On a slope of 1 in each entry Adam's step is the cap, in every entry."""
    params = [nn.Parameter(torch.full((3,), 50.0, dtype=torch.float64)) for _ in range(2)]
    opt = make(params, max_lr=0.01)
    for k in range(3 + rest + 3):
        params[1].requires_grad_(not 3 <= k < 3 + rest)
        before = [p.detach().clone() for p in params]
        opt.zero_grad()
        opt.watch(params[0].sum() + params[1].sum()).backward()
        opt.step()
        for p, old in zip(params, before, strict=True):
            expected = 0.01 if p.requires_grad else 0.0
            torch.testing.assert_close(old - p.detach(), torch.full_like(old, expected))


def test_a_rejoining_parameter_is_measured_in_the_metric_it_moves_in():
    """The ratio is measured before the step, and the squares are scaled in both."""
    x, y = (nn.Parameter(torch.tensor([v], dtype=torch.float64)) for v in (3.0, -2.0))
    opt = CLRAdam([x, y], every=1, momentum=0.0, beta2=0.9)
    for k in range(8):
        y.requires_grad_(k < 2 or k == 7)
        opt.zero_grad()
        before = opt.param_groups[0].get("hessian_ratio", torch.tensor(0.0)).clone()
        opt.watch((x.square() + 5.0 * y.square()).sum()).backward()
        opt.step()
    group = opt.param_groups[0]
    H, g = torch.tensor([2.0, 10.0]).double(), torch.cat([x.grad, y.grad])
    squares = torch.cat([opt.state[p]["square_average"] for p in (x, y)])
    P = 1.0 / ((squares / group["square_weight"]).sqrt() + 1e-8)
    ratio = (P.sqrt() * H * P * g).norm() / (P.sqrt() * g).norm()
    assert float(group["hessian_ratio"]) == pytest.approx(float(before + (ratio - before) / 8))


@pytest.mark.parametrize("skipped", [1, 3])
@pytest.mark.parametrize("bad", [math.nan, math.inf], ids=str)
@pytest.mark.parametrize("make", [CLR, MoMo, MoMoAdam], ids=lambda kind: kind.__name__)
def test_a_skipped_step_lets_nothing_join(make, bad: float, skipped: int):
    """Neither its average nor its squares come from a step that was not taken."""
    ends = []
    for times in (0, skipped):
        a, b = (nn.Parameter(torch.tensor([v, 1.0], dtype=torch.float64)) for v in (3.0, 5.0))
        opt = make([a, b], momentum=0.9)
        for k in range(5 + times):
            opt.zero_grad()
            b.requires_grad_(k >= 3)
            loss = (a - 1.0).square().sum() + (b - 2.0).square().sum()
            loss.backward()
            if 3 <= k < 3 + times:
                b.grad = torch.tensor([bad, 100.0], dtype=torch.float64)
            opt.step(loss=loss)
        ends.append([a.detach(), b.detach(), *(opt.state[b][key] for key in sorted(opt.state[b]))])
    assert all(map(torch.equal, *ends))


def test_a_bad_first_gradient_does_not_stay(parameter):
    p, q = parameter([1.0], [1.0]), parameter([0.0, 0.0])
    opt = CLR([p, q], momentum=0.9)
    opt.step(loss=1.0)
    for bad in (math.nan, math.inf, 1.0):
        q.grad = torch.tensor([bad, 1.0], dtype=torch.float64)
        opt.step(loss=1.0)
    assert bool(q.isfinite().all())
    assert step_sizes(opt)[0] > 0.0


@pytest.mark.parametrize("make", [CLR, MoMo, MoMoAdam], ids=lambda kind: kind.__name__)
def test_losses_are_averaged_with_the_f_star_of_their_batches(make):
    """A constant added to a batch's loss and to its f_star changes no step."""
    ends = []
    for shifts in ([0.0] * 6, [0.0, 5.0, -3.0, 100.0, 0.5, 0.0]):
        x = nn.Parameter(torch.tensor([2.0, -1.0], dtype=torch.float64))
        opt = make([x], max_lr=math.inf, momentum=0.9, f_star=shifts[0])
        for shift in shifts:
            opt.param_groups[0]["f_star"] = shift
            opt.zero_grad()
            loss = (torch.tensor([1.0, 3.0]).double() * x.square()).sum() + 1.0 + shift
            loss.backward()
            opt.step(loss=loss)
        ends.append(x.detach())
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-11, atol=1e-11)
