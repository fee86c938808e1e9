"""state_dict, pickle, deepcopy, hooks, groups: as for torch's own optimizers."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from corridor import CLR
from corridor.optim import AdaSPS, MoMo, MoMoAdam, SPSMax


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def train(model: nn.Module, opt: torch.optim.Optimizer, steps: int, start: int = 0) -> None:
    for k in range(start, start + steps):
        generator = torch.Generator().manual_seed(k)
        x = torch.randn(16, 4, generator=generator)
        opt.zero_grad()
        loss = (model(x) - x[:, :2]).square().mean()
        loss.backward()
        opt.step(loss=loss)


def through_a_file(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "weight_decay": 0.01}], ids=str)
def test_resume_equals_the_uninterrupted_run_bit_for_bit(options):
    whole, part = network(), network()
    opt = CLR(whole.parameters(), **options)
    train(whole, opt, 10)
    first = CLR(part.parameters(), **options)
    train(part, first, 5)
    saved = through_a_file(first.state_dict())
    second = CLR(part.parameters())
    second.load_state_dict(saved)
    train(part, second, 5, start=5)
    for p, q in zip(whole.parameters(), part.parameters(), strict=True):
        assert torch.equal(p, q)
    for key, value in opt.param_groups[0].items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, second.param_groups[0][key]), key


def test_a_snapshot_stays_what_it_was():
    model = network()
    opt = CLR(model.parameters(), momentum=0.9)
    train(model, opt, 2)
    saved = opt.state_dict()
    before = {k: float(v) for k, v in saved["param_groups"][0].items() if torch.is_tensor(v)}
    train(model, opt, 3)
    after = {k: float(v) for k, v in saved["param_groups"][0].items() if torch.is_tensor(v)}
    assert before == after
    assert "effective_lr" in before


def test_missing_scalars_are_restored_on_load():
    model = network()
    opt = CLR(model.parameters())
    saved = opt.state_dict()
    del saved["param_groups"][0]["effective_lr"], saved["param_groups"][0]["skipped"]
    opt.load_state_dict(saved)
    train(model, opt, 1)
    assert float(opt.param_groups[0]["effective_lr"]) > 0.0


def test_a_checkpoint_of_sgd_loads():
    model = network()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    opt = CLR(model.parameters())
    opt.load_state_dict(sgd.state_dict())
    train(model, opt, 2)
    assert float(opt.param_groups[0]["effective_lr"]) == pytest.approx(0.1)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_step_alike(copier):
    model = network()
    opt = CLR(model.parameters(), momentum=0.9, f_star=0.01)
    train(model, opt, 3)
    model2, opt2 = copier((model, opt))
    train(model, opt, 3, start=3)
    train(model2, opt2, 3, start=3)
    for p, q in zip(model.parameters(), model2.parameters(), strict=True):
        assert torch.equal(p, q)


def test_hooks_run_once_a_step():
    seen: list[str] = []
    model = network()
    torch.optim.SGD(model.parameters(), lr=0.1)
    opt = CLR(model.parameters())
    opt.register_step_pre_hook(lambda *_: seen.append("pre"))
    opt.register_step_post_hook(lambda *_: seen.append("post"))
    train(model, opt, 2)
    assert seen == ["pre", "post"] * 2


def test_a_group_added_later_takes_part():
    model, extra = network(), nn.Parameter(torch.ones(3))
    opt = CLR(model.parameters(), momentum=0.9)
    train(model, opt, 2)
    opt.add_param_group({"params": [extra], "max_lr": 0.01})
    for k in range(2, 6):
        opt.zero_grad()
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(k))
        loss = (model(x) - x[:, :2]).square().mean() + extra.square().sum()
        loss.backward()
        opt.step(loss=loss)
    assert float(opt.param_groups[1]["effective_lr"]) <= 0.01 + 1e-8
    assert float(extra.detach().norm()) < 3**0.5


def test_parameters_moved_after_construction_take_their_scalars_along():
    model = network()
    opt = CLR(model.parameters(), momentum=0.9)
    train(model, opt, 1)
    model.double()
    for _ in range(2):
        opt.zero_grad()
        loss = model(torch.ones(2, 4, dtype=torch.float64)).square().mean()
        loss.backward()
        opt.step(loss=loss)
    assert opt.param_groups[0]["effective_lr"].dtype == torch.float64
    assert {kept["gradient_average"].dtype for kept in opt.state.values()} == {torch.float64}


def test_named_parameters_are_accepted():
    model = network()
    opt = CLR(model.named_parameters())
    train(model, opt, 1)
    assert float(opt.param_groups[0]["effective_lr"]) > 0.0


def test_no_state_without_momentum_and_one_buffer_with_it():
    model = network()
    plain, heavy = CLR(model.parameters()), CLR(model.parameters(), momentum=0.9)
    train(model, plain, 1)
    train(model, heavy, 1)
    assert not plain.state
    for p in model.parameters():
        assert {v.shape for v in heavy.state[p].values() if v.dim()} == {p.shape}
        assert set(heavy.state[p]) == {"gradient_average", "average_weight"}


def test_making_the_state_by_a_step_at_rate_zero_changes_nothing():
    """As checkpointing tools do: zero gradients, every rate 0, step() without a loss."""
    runs = []
    for initialised in (False, True):
        model = network()
        opt = CLR(model.parameters(), momentum=0.9)
        if initialised:
            for p in model.parameters():
                p.grad = torch.zeros_like(p)
            opt.param_groups[0]["lr"] = 0.0
            opt.step()
            opt.param_groups[0]["lr"] = 1.0
            assert len(opt.state) == len(list(model.parameters()))
        train(model, opt, 3)
        runs.append(list(model.parameters()))
    for p, q in zip(*runs, strict=True):
        assert torch.equal(p, q)


def test_a_rate_of_zero_in_one_group_does_not_excuse_a_missing_loss():
    p, q = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    opt = CLR([{"params": [p]}, {"params": [q]}])
    opt.param_groups[0]["lr"] = 0.0
    with pytest.raises(ValueError, match="no loss"):
        opt.step()


def test_parameters_made_real_from_meta_take_their_scalars_along():
    model = nn.Linear(3, 2, device="meta")
    opt = CLR(model.parameters())
    for name, p in list(model.named_parameters()):
        real = nn.Parameter(torch.ones(p.shape))
        setattr(model, name, real)
        places = opt.param_groups[0]["params"]
        places[:] = [real if x is p else x for x in places]
    loss = model(torch.ones(1, 3)).square().mean()
    loss.backward()
    opt.step(loss=loss)
    assert float(opt.param_groups[0]["effective_lr"]) > 0.0


def test_empty_parameters_have_state_as_all_others():
    p, empty = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(0))
    opt = CLR([p, empty], momentum=0.9)
    p.grad, empty.grad = torch.ones(2), torch.ones(0)
    opt.step(loss=1.0)
    assert set(opt.state) == {p, empty}


@pytest.mark.parametrize("option", [{"momentum": 0.9}, {"drift": 1.0}], ids=str)
def test_options_may_be_set_before_a_step_size_is_asked_for(option):
    model = network()
    opt = CLR(model.parameters())
    opt.param_groups[0].update(option)
    asked = float(opt.step_size_at(torch.tensor(1.0), torch.tensor(4.0)))
    assert asked == (0.0 if "drift" in option else 0.25)  # no step before a measurement


def test_drift_may_be_set_later():
    model = network()
    opt = CLR(model.parameters())
    train(model, opt, 2)
    opt.param_groups[0]["drift"] = 0.1
    opt.watch(model(torch.ones(2, 4)).square().mean()).backward()
    opt.step()
    ratio, step = (float(opt.param_groups[0][key]) for key in ("hessian_ratio", "effective_lr"))
    assert 0.0 < step <= 0.2 / ratio * (1.0 + 1e-6)


def test_groups_taken_from_an_optimizer_begin_to_measure_anew():
    p = nn.Parameter(torch.tensor([2.0, 1.0]))
    first = CLR([p], drift=1.0)
    first.watch(p.square().sum()).backward()
    first.step()
    again = CLR(first.param_groups)
    assert int(again.param_groups[0]["steps_seen"]) == 0
    again.zero_grad()
    again.watch(3.0 * p.square().sum()).backward()
    again.step()
    assert float(again.param_groups[0]["hessian_ratio"]) == pytest.approx(6.0)


def test_groups_of_an_estimating_optimizer_serve_another():
    p = nn.Parameter(torch.tensor([2.0, 1.0]))
    opt = CLR(MoMo([p], estimate_f_star=True).param_groups)
    p.grad = torch.ones(2)
    opt.step(loss=1.0)
    assert float(opt.param_groups[0]["effective_lr"]) == pytest.approx(0.5)


@pytest.mark.parametrize("make", [lambda p: CLR(p, momentum=0.9), lambda p: MoMoAdam(p, 0.1)])
def test_a_snapshot_in_memory_resumes_twice(make):
    """Buffers and scalars are copies on both ways, so that a snapshot serves again."""
    model = network()
    opt = make(model.parameters())
    train(model, opt, 3)
    weights, saved = copy.deepcopy(model.state_dict()), opt.state_dict()
    ends = []
    for _ in range(3):
        train(model, opt, 3, start=3)
        ends.append([p.detach().clone() for p in model.parameters()])
        model.load_state_dict(weights)
        opt.load_state_dict(saved)
    for end in ends[1:]:
        assert all(map(torch.equal, ends[0], end))


@pytest.mark.parametrize("kind", [CLR, SPSMax])
@pytest.mark.parametrize("entry", [3, {"velocity": 1, "gradient_average": 2}])
def test_foreign_entries_in_the_state_change_nothing(kind, entry):
    p = nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    opt = kind([p])
    opt.state["mine"] = entry
    elsewhere = torch.ones(1)
    opt.state[elsewhere] = entry
    opt.step(loss=1.0)
    assert p not in opt.state
    del opt.state[elsewhere]  # torch's state_dict has no name for it
    again = kind([p])
    again.load_state_dict(opt.state_dict())
    again.step(loss=1.0)
    assert again.state["mine"] == entry


@pytest.mark.parametrize("wrap", [float, lambda v: v.reshape(1)])
def test_scalars_may_be_loaded_as_plain_numbers(wrap):
    p, q = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    opts = [AdaSPS([x], momentum=0.5) for x in (p, q)]
    p.grad = q.grad = torch.ones(2)
    for opt in opts:
        opt.step(loss=1.0)
    saved = opts[1].state_dict()
    group = saved["param_groups"][0]
    scalars = {key for key, value in group.items() if isinstance(value, torch.Tensor)}
    group.update({key: wrap(group[key]) for key in scalars})
    opts[1].load_state_dict(saved)
    assert all(opts[1].param_groups[0][key].shape == () for key in scalars)
    for opt in opts:
        opt.step(loss=0.5)
    assert torch.equal(p, q)
    assert int(opts[1].param_groups[0]["skipped"]) == 0


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"drift": 1.0}], ids=str)
def test_what_is_made_in_inference_mode_serves_outside(options):
    p = nn.Parameter(torch.ones(2))
    with torch.inference_mode():
        opt = CLR([p], **options)
    for inside in (True, False, True, False):
        opt.zero_grad()
        opt.watch(p.square().sum()).backward()
        with torch.inference_mode(inside):
            opt.step()
            opt.load_state_dict(opt.state_dict())
    assert float(opt.param_groups[0]["effective_lr"]) > 0.0
    with torch.inference_mode():
        opt.step(lambda: opt.watch(p.square().sum()).backward())
        opt.add_param_group({"params": [nn.Parameter(torch.ones(1))]})
    opt.step(lambda: opt.watch(p.square().sum()).backward())


@pytest.mark.parametrize("change", ["reversed", "first deleted", "saved reversed"])
@pytest.mark.parametrize("kind", [CLR, MoMoAdam])
def test_groups_may_be_reordered_or_deleted(kind, change: str):
    """The scalars of the step stay with the optimizer, whatever group is the first."""
    ends = []
    for changed in (False, True):
        p, q = (nn.Parameter(torch.tensor([v, -1.0])) for v in (2.0, 3.0))
        opt = kind([{"params": [q]}, {"params": [p]}], momentum=0.9)
        for k in range(6):
            opt.zero_grad()
            loss = p.square().sum()
            if k < 3:
                loss = loss + q.square().sum()
            loss.backward()
            opt.step(loss=loss)
            if k == 2 and changed:
                opt.param_groups.reverse() if "reversed" in change else opt.param_groups.pop(0)
                if change == "saved reversed":
                    groups = opt.param_groups
                    opt, saved = kind(copy.copy(groups)), opt.state_dict()
                    opt.load_state_dict(saved)
        assert float(opt.param_groups[0]["average_weight"]) == pytest.approx(1.0 - 0.9**6)
        ends.append(p.detach())
    assert torch.equal(*ends)


def test_a_loaded_state_is_shared_as_before():
    """A step that is compiled once needs no second graph after loading."""
    model = network()
    opt, again = (CLR(model.parameters(), momentum=0.9) for _ in range(2))
    train(model, opt, 2)
    again.load_state_dict(opt.state_dict())
    weight = again.param_groups[0]["average_weight"]
    assert all(kept["average_weight"] is weight for kept in again.state.values())
