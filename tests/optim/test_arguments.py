"""Arguments and group keys: every one is named, and an unknown one is an error with advice."""

from __future__ import annotations

import inspect

import pytest
import torch
from tests.relatives import RELATIVES

import corridor.optim
from corridor import CLR, CLRAdam
from corridor.optim import DAL, NGN, DecSPS, MoMo, Polyak, SPSMax
from corridor.optim.base import PolyakOptimizer

CLASSES = [getattr(corridor.optim, name) for name in corridor.optim.__all__]


def make(kind, *args, **options):
    needed = {"f_star": 0.0} if kind is Polyak and not args else {}
    return kind([torch.nn.Parameter(torch.ones(2))], *args, **{**needed, **options})


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_signature_names_every_argument_and_all_but_two_by_keyword(kind):
    parameters = list(inspect.signature(kind).parameters.values())
    assert {p.kind for p in parameters[:2]} == {inspect.Parameter.POSITIONAL_OR_KEYWORD}
    assert {p.kind for p in parameters[2:]} == {inspect.Parameter.KEYWORD_ONLY}
    assert parameters[0].name == "params"


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_misspelt_argument_is_refused_with_the_nearest_name(kind):
    message = rf"{kind.__name__} has no option 'wieght_decay'; did you mean 'weight_decay'\?"
    with pytest.raises(TypeError, match=message):
        make(kind, wieght_decay=0.1)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (CLR, {"lr": 0.1}, "no option 'lr'; its cap is max_lr"),
        (NGN, {"lr": 0.1}, "no option 'lr'; its cap is sigma"),
        (CLRAdam, {"max_lr": 5.0, "lr": 1e-3}, "no option 'lr'; its cap is max_lr"),
        (CLRAdam, {"betas": (0.5, 0.5)}, r"did you mean 'beta2'\?"),
        (SPSMax, {"scale": 0.1}, "SPSMax has no option 'scale'"),
        (MoMo, {"nesterov": True}, "MoMo has no option 'nesterov'; choose from max_lr, f_star"),
        (DecSPS, {"foo": 1}, "choose from max_lr, c, f_star, momentum, weight_decay"),
        (DAL, {"f_star": 0.1}, "DAL has no option 'f_star'"),
    ],
)
def test_an_unknown_argument_is_refused(kind, options, message):
    with pytest.raises(TypeError, match=message) as error:
        make(kind, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "keys", "message"),
    [
        (CLR, {"wieght_decay": 0.1}, r"CLR has no group key 'wieght_decay'; did you mean 'weight"),
        (SPSMax, {"scale": 0.1}, "SPSMax has no group key 'scale'"),
        (DAL, {"f_star": 0.1}, "DAL has no group key 'f_star'"),
        (CLR, {"nesterov": True}, "CLR has no group key 'nesterov'; choose from lr"),
        (CLR, {"min_lr": 0.1}, "CLR has no group key 'min_lr'; did you mean"),
        (CLR, {"sigma": 0.1}, "CLR has no group key 'sigma'"),
    ],
)
def test_an_unknown_group_key_is_refused(parameter, kind, keys, message):
    with pytest.raises(TypeError, match=message) as error:
        kind([{"params": [parameter([1.0])], **keys}])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("group", [None, "w", [torch.nn.Parameter(torch.ones(1))]])
def test_a_group_that_is_not_a_dict_is_refused_as_torch_does(parameter, group):
    with pytest.raises(TypeError, match="param_group must be a dict"):
        CLR([parameter([1.0])]).add_param_group(group)
    with pytest.raises(TypeError, match="param_group must be a dict"):
        CLR([{"params": [parameter([1.0])]}, group])


@pytest.mark.parametrize("key", ["f_star", "scale", "momentum", "average_loss", "every"])
def test_a_shared_option_of_one_group_alone_is_refused(parameter, key):
    value = {"average_loss": False, "every": 3}.get(key, 0.5)
    for order in (1, -1):
        groups = [{"params": [parameter([1.0])], key: value}, {"params": [parameter([1.0])]}]
        message = f"{key} must be given by all parameter groups or by no group.*to CLR as {key}="
        with pytest.raises(ValueError, match=message):
            CLR(groups[::order])


def test_shared_options_of_groups_have_to_agree(parameter):
    groups = [{"params": [parameter([1.0])], "f_star": v} for v in (0.1, 0.2)]
    with pytest.raises(ValueError, match=r"f_star must be equal in all .* got 0.1 and 0.2"):
        CLR(groups)
    opt = CLR(groups[:1])
    with pytest.raises(ValueError, match="f_star must be equal in all"):
        opt.add_param_group(groups[1])
    opt.add_param_group({"params": [parameter([1.0])]})
    assert opt.param_groups[1]["f_star"] == 0.1


@pytest.mark.parametrize("kind", [CLR, torch.optim.SGD])
def test_keys_of_torch_and_its_schedulers_are_admitted(parameter, kind):
    first = kind([{"params": [parameter([1.0], [1.0])], "name": "a"}], momentum=0.9)
    torch.optim.lr_scheduler.OneCycleLR(first, max_lr=0.5, total_steps=10)
    groups = first.param_groups
    keys = ("dampening", "nesterov", "maximize", "foreach", "differentiable", "fused")
    taken = [{key: value for key, value in g.items() if key not in keys} for g in groups]
    opt = CLR(taken)
    assert opt.param_groups[0]["name"] == "a"
    assert opt.param_groups[0]["lr"] == groups[0]["lr"]  # and not OneCycleLR's max_lr
    torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=0.5, total_steps=10)
    again = CLR([parameter([1.0], [1.0])])
    again.load_state_dict(opt.state_dict())
    again.step(loss=1.0)


def test_groups_of_one_optimizer_may_be_given_to_another(parameter):
    """Its own options and what its steps left there are dropped."""
    p = parameter([1.0, 2.0], [1.0, 0.0])
    for name, make_first in RELATIVES.items():
        first = make_first([p], weight_decay=0.1)
        first.step(loss=1.0)
        opt = NGN(first.param_groups)
        kept = {key: v for key, v in opt.param_groups[0].items() if not torch.is_tensor(v)}
        assert kept.pop("rule") == "NGN", name
        assert kept["weight_decay"] == 0.1
        assert set(kept) == {"params", "lr", "weight_decay", "f_star", "momentum", "average_loss"}


def test_a_rule_of_a_users_own_is_checked_as_ours_are(parameter):
    class Half(PolyakOptimizer):
        """Inherits the constructor."""

    class Third(PolyakOptimizer):
        """Names an argument more, and passes the others on."""

        def __init__(self, params, *, third: float = 3.0, **others) -> None:
            super().__init__(params, **others)

    assert Half([parameter([1.0])], 0.5, f_star=0.1).param_groups[0]["lr"] == 0.5
    assert Third([parameter([1.0])], f_star=0.1).param_groups[0]["f_star"] == 0.1
    for kind in (Half, Third):
        with pytest.raises(TypeError, match=rf"{kind.__name__} has no option 'fstar'; did you"):
            kind([parameter([1.0])], fstar=0.1)
