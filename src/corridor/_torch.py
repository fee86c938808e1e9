"""List the private names of torch that corridor uses, each with its reason.

The names have no public counterpart. tests/test_torch.py fails when torch changes one of them.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.autograd.grad_mode import _unsafe_preserve_version_counter
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _python_dispatch

_private: Any = torch  # type checkers do not list the private names

# One kernel call for a whole list of tensors. A Python loop costs a call per parameter.
foreach_mul_ = _private._foreach_mul_
foreach_copy_ = _private._foreach_copy_
foreach_norm = _private._foreach_norm

# One pass over memory. Step size and `found_inf` are tensors, so nothing is read to the host.
fused_sgd_ = _private._fused_sgd_
fused_adam_ = _private._fused_adam_

# The function that weight_norm calls. Its second derivative is wrong, so geometry replaces it.
weight_norm = _private._weight_norm

# An expanded tensor shares memory between entries. A fused kernel would update it several times.
has_internal_overlap = _private._debug_has_internal_overlap

# The one way to learn, during backward, whether the pass will reach a parameter's gradient.
will_engine_execute_node = _private._C._will_engine_execute_node

# The node whose hook runs during backward. A hook that holds its own node would never be freed.
current_node = _private._C._current_autograd_node

# The end of a backward pass is the first moment at which all its gradients are in place.
after_backward = _private.autograd.Variable._execution_engine.queue_callback

# torch.compiler.disable without the import of the compiler, which takes seconds.
disable_dynamo = _private._disable_dynamo

# A tensor inside torch.func has no graph of its own. Hooks and formulas must leave it alone.
is_functorch_wrapped = _private._C._functorch.is_functorch_wrapped_tensor

# Weights that are moved and put back bit for bit must not look changed to autograd.
preserve_version = _unsafe_preserve_version_counter

BatchNorm = _BatchNorm

# It gets all elementary operations. A TorchFunctionMode gets only composite operations.
DispatchMode = _python_dispatch.TorchDispatchMode


def forward_mode_is_on() -> bool:
    """Return True inside forward-mode differentiation, which geometry's formulas do not support."""
    return forward_ad._current_level >= 0


def saved_tensors_have_hooks() -> bool:
    """Return True inside a checkpoint, which runs its layers again without a TorchFunctionMode."""
    return _private._C._autograd._top_saved_tensors_default_hooks(False) is not None


def default_store() -> Any:
    """Return the default group's store, in which waits have a time limit."""
    from torch.distributed import distributed_c10d

    return distributed_c10d._get_default_store()


def output_metadata(node: Any) -> Any:
    """Return shape, dtype and device of the gradients that a node of the graph expects."""
    return node._input_metadata


# With these, a forward pass of DDP arranges averaging. A measurement must not do so.
DDP_STATE = (
    "require_backward_grad_sync",
    "require_forward_param_sync",
    "_static_graph_delay_allreduce_enqueued",
)


def ddp_modules(nodes: Iterable[Any]) -> list[Any]:
    """Return the DDP modules with a static graph whose first backward pass has such nodes."""
    return [n.ddp_weakref() for n in nodes if n.name().startswith("_DDPSinkBackward")]
