"""The private names of torch still mean what corridor takes them to mean."""

import ast
import inspect
from pathlib import Path

import pytest
import torch
from torch.autograd.graph import get_gradient_edge

import corridor
from corridor import _torch

SOURCES = sorted(Path(corridor.__file__).parent.rglob("*.py"))


def test_no_other_file_names_a_private_part_of_torch():
    found = []
    for file in SOURCES:
        if file.name == "_torch.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute):
                dotted = ast.unparse(node)
                private = node.attr.startswith("_") and not node.attr.startswith("__")
                if private and dotted.startswith(("torch.", "dist.")):
                    found.append(f"{file.name}:{node.lineno} {dotted}")
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch"):
                names = [node.module.split(".")[-1], *(alias.name for alias in node.names)]
                found += [f"{file.name}:{node.lineno} {n}" for n in names if n.startswith("_")]
    assert found == []


def test_foreach_kernels():
    xs = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])]
    _torch.foreach_mul_(xs, torch.tensor(2.0))
    assert [x.tolist() for x in xs] == [[2.0, 4.0], [6.0, 8.0]]
    _torch.foreach_copy_(xs, [torch.zeros(2), torch.tensor([3.0, 4.0])])
    assert [float(n) for n in _torch.foreach_norm(xs, 2, dtype=torch.float64)] == [0.0, 5.0]


@pytest.mark.parametrize("skip", [0.0, 1.0])
def test_fused_sgd_takes_the_step_as_a_tensor_and_skips(skip):
    p, g = torch.tensor([1.0]), torch.tensor([2.0])
    _torch.fused_sgd_(
        [p], [g], [], lr=torch.tensor(0.25), weight_decay=0.0, momentum=0.0, dampening=0.0,
        nesterov=False, maximize=False, is_first_step=False, found_inf=torch.tensor(skip),
    )  # fmt: skip
    assert p.item() == (1.0 if skip else 0.5)


@pytest.mark.parametrize("skip", [0.0, 1.0])
def test_fused_adam_takes_the_step_as_a_tensor_and_skips(skip):
    p, g, m, v = (torch.tensor([x]) for x in (1.0, 2.0, 0.0, 0.0))
    _torch.fused_adam_(
        [p], [g], [m], [v], [], [torch.tensor(1.0)],
        lr=torch.tensor(0.25), beta1=0.5, beta2=0.75, weight_decay=0.0, eps=0.0,
        amsgrad=False, maximize=False, grad_scale=None, found_inf=torch.tensor(skip),
    )  # fmt: skip
    assert (p.item(), m.item(), v.item()) == ((1.0, 0.0, 0.0) if skip else (0.75, 1.0, 1.0))


def test_weight_norm_is_called_by_the_parametrization():
    v, g = torch.tensor([[3.0, 4.0]]), torch.tensor([[10.0]])
    assert _torch.weight_norm(v, g, 0).tolist() == [[6.0, 8.0]]


def test_internal_overlap():
    assert _torch.has_internal_overlap(torch.zeros(2)) == 0
    assert _torch.has_internal_overlap(torch.zeros(1).expand(2)) != 0


def test_the_engine_says_which_parameters_it_will_reach():
    reached, left = (torch.ones((), requires_grad=True) for _ in range(2))
    loss, said = reached * left, []

    def ask(gradient):
        ends = [get_gradient_edge(p).node for p in (reached, left)]
        said.extend(_torch.will_engine_execute_node(end) for end in ends)

    loss.register_hook(ask)
    loss.backward(inputs=[reached])
    assert said == [True, False]


def test_functorch_wrapped():
    seen = []

    def f(x):
        seen.append(_torch.is_functorch_wrapped(x))
        return x.sum()

    torch.func.grad(f)(torch.ones(2))
    assert seen == [True]
    assert not _torch.is_functorch_wrapped(torch.ones(2))


def test_preserve_version_hides_a_change_from_autograd():
    x = torch.ones((), requires_grad=True)
    y = x * x
    with torch.no_grad(), _torch.preserve_version(x):
        x.add_(1.0).sub_(1.0)
    y.backward()
    assert x.grad is not None
    assert x.grad.item() == 2.0


def test_batch_norm_base():
    layers = (torch.nn.BatchNorm1d(2), torch.nn.BatchNorm3d(2), torch.nn.SyncBatchNorm(2))
    assert all(isinstance(layer, _torch.BatchNorm) for layer in layers)


def test_forward_mode_is_seen():
    assert not _torch.forward_mode_is_on()
    with torch.autograd.forward_ad.dual_level():
        assert _torch.forward_mode_is_on()


def test_a_hook_sees_its_node_and_may_wait_for_the_end_of_the_pass():
    """A callback that another callback queues runs after all that were queued before."""
    x, order = torch.ones((), requires_grad=True), []
    loss = x.square()

    def begin(gradient):
        order.append(_torch.current_node() is loss.grad_fn)
        _torch.after_backward(lambda: _torch.after_backward(lambda: order.append(x.grad.item())))
        _torch.after_backward(lambda: order.append("others"))

    loss.register_hook(begin)
    loss.backward()
    assert order == [True, "others", 2.0]


def test_a_disabled_function_is_not_compiled():
    inside = _torch.disable_dynamo(torch.compiler.is_compiling)
    assert torch.compile(lambda: inside(), backend="eager")() is False


def test_output_metadata_names_the_form_of_the_gradients_of_a_node():
    y = torch.ones(2, 3, requires_grad=True).double().sin()
    (found,) = _torch.output_metadata(y.grad_fn)
    assert (tuple(found.shape), found.dtype, found.device) == ((2, 3), y.dtype, y.device)


def test_hooks_of_saved_tensors_are_seen_in_a_checkpoint():
    seen = []
    x = torch.ones(2, requires_grad=True)

    def layer(x):
        seen.append(_torch.saved_tensors_have_hooks())
        return x.sin()

    torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False).sum().backward()
    layer(x)
    assert seen == [True, True, False]


def test_the_settings_of_ddp_are_attributes_of_the_module():
    source = inspect.getsource(torch.nn.parallel.DistributedDataParallel)
    assert all(f"self.{name} =" in source for name in _torch.DDP_STATE)
    sink = inspect.getsource(torch.nn.parallel.distributed._DDPSink)
    assert "ctx.ddp_weakref = ddp_weakref" in sink
