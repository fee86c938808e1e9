"""Define CLR, the optimizer of the paper, with a default cap that is safe."""

import math
from typing import ClassVar

from corridor._types import Params
from corridor.optim import _options
from corridor.optim._curvature import CoherentDrift, Drift
from corridor.optim._metric import Adam, Euclidean
from corridor.optim._motion import Average
from corridor.optim.base import PolyakOptimizer

DEFAULT_MAX_LR = 1.0


class CLR(PolyakOptimizer):
    """Descend along the gradient by the Corridor Learning Rate: there is nothing to tune.

    In a corridor the loss falls linearly along the gradient. The step that brings it to `f_star` is

        h = min(scale * (loss - f_star)_+ / ||g||^2, max_lr),    theta <- theta - h g

    with ``||g||^2`` over all parameters. ``CLR(params, max_lr=float("inf"))`` is exactly the
    paper's rule, and ``max_lr=10`` is its ImageNet form.

    The loss comes in one of three ways: ``step(loss=loss)``; ``step(closure)``; or ``watch(loss)``
    before backward, or ``attach(model)`` once, with a bare ``step()``. A watched loss replaces a
    closure's return value. A loss or gradient that is not finite skips the step: parameters and
    averages do not change. Clipping shortens g and not the loss, so the step grows; lower `max_lr`
    instead.

    With ``momentum > 0`` the step goes along the average of past gradients, to where the average of
    their linear models meets `f_star` (MoMo). This is exact in corridors and costs one buffer. The
    model assumes that only these steps move the parameters.

    With ``drift=tau`` the curvature of the loss limits the step instead of a cap,

        h = min(loss / ||g||^2, 2 tau ||g|| / ||Hg||)

    It is the largest step whose drift from gradient flow is, to leading order, tau times the
    step. Hg comes from the graph of the watched loss in one of `every` steps, and costs about three
    gradients. The loss must then come by `watch` or `attach`, in a closure too.

    Args:
        params: parameters, groups, or named parameters, as for any torch optimizer.
        max_lr: the cap, positive or inf (default: 1, or inf with `drift`). It is stored in
            ``param_groups[i]["lr"]``, where a scheduler scales it. A group may have its own.
        f_star: lower bound of the loss, the value that the step aims at (default: 0). The default
            is right for losses that can reach zero, such as cross-entropy with hard labels.
        scale: factor on the step before any limit, positive (default: 1).
        momentum: weight of the past in the gradient average, in [0, 1) (default: 0).
        weight_decay: decoupled, ``theta <- (1 - h weight_decay) theta`` before the step,
            non-negative (default: 0). It is not part of the loss, so `f_star` keeps its meaning.
            A group may have its own.
        average_loss: average the loss over all ranks of the default process group, as
            data-parallel training averages gradients (default: True). Use False if each rank
            trains its own model.
        drift: tau, the largest relative drift of a step, positive; None for no limit
            (default: None).
        every: number of steps from one measurement of the drift to the next (default: 10).

    ``param_groups[0]`` holds 0-dim tensors on the parameters' device; only their readers wait for
    it. ``["effective_lr"]``, in every group, is the last step size, 0 on a skipped step.
    ``["skipped"]`` is the number of skipped steps, and ``["grad_norm"]`` is the last ``||g||``.
    With `drift`, ``["hessian_ratio"]`` is ``||Hg|| / ||g||``.

    Raises:
        TypeError: an argument or group key is unknown.
        ValueError: an option is out of range, or groups disagree on an option that they share. With
            `drift`: the loss cannot be differentiated twice, or no loss was watched when a
            measurement was due.

    Example:
        >>> import torch
        >>> x = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> opt = CLR([x], max_lr=float("inf"))
        >>> loss = x.norm()  # a cone: a corridor down to its apex
        >>> loss.backward()
        >>> _ = opt.step(loss=loss)
        >>> bool(x.norm() < 1e-6), float(opt.param_groups[0]["effective_lr"])
        (True, 5.0)

    Reference:
        Dherin and Rosca (2024), "Corridor Geometry in Gradient-Based Optimization". The momentum
        form follows Schaipp et al. (2024), "MoMo". The step 2 ||g|| / ||Hg|| is the drift-adjusted
        learning rate of Rosca et al. (2023).
    """

    MOTION = Average(Euclidean())
    LIMITS = (Drift(),)
    OPTIONS: ClassVar = {"scale": _options.POSITIVE}

    def __init__(
        self,
        params: Params,
        max_lr: float | None = None,
        *,
        f_star: float = 0.0,
        scale: float = 1.0,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        average_loss: bool = True,
        drift: float | None = None,
        every: int = 10,
    ) -> None:
        if max_lr is None:
            max_lr = DEFAULT_MAX_LR if drift is None else math.inf
        self._begin(locals())


class CLRAdam(PolyakOptimizer):
    """Take CLR's steps in the metric of Adam's second moments: no learning rate, no cap.

    With the inner product of ``P^-1 = sqrt(v) + eps`` gradient flow is ``theta' = -P g``, a
    corridor is where ``H P g = 0``, and

        h = min((loss - f_star)_+ / (g^T P g), 2 tau sqrt(c) / r),   r = mean of |P H P g| / |P g|

    with both lengths in the metric. The second term is the largest step whose drift from that flow
    is tau times the step. With momentum the first term comes from the average of the linear models,
    as in `MoMoAdam`, and the step goes along the averaged gradient.

    c is the coherence of the gradients, from 1 down to 0.23 in pure noise, and r is the
    mean over the whole path; docs/drift.md explains why. ``H (P g)`` is measured as for `CLR` with
    drift, and the loss must come by `watch` or `attach`, in a closure too. The formulas are exact
    for the P of a single step.

    Args:
        params: whole parameters, groups of them, or named parameters, none of them sharded.
        max_lr: the cap, positive or inf (default: inf). It is stored in ``param_groups[i]["lr"]``,
            where a scheduler scales it. A group may have its own.
        f_star: lower bound of the loss (default: 0).
        momentum: weight of the past in the averaged gradient, in [0, 1) (default: 0.9).
        beta2: weight of the past in v, in [0, 1) (default: 0.999).
        eps: number added to the root of v, positive (default: 1e-8).
        drift: tau, the largest relative drift of a step while gradients agree, positive
            (default: 3). Without momentum, steps are stable up to drift 1.
        every: number of steps from one measurement of the drift to the next (default: 20).
        weight_decay: decoupled, non-negative (default: 0). A group may have its own.
        average_loss: average the loss over all ranks (default: True).

    ``param_groups[0]["hessian_ratio"]`` is r, and ``["drift_limit"]`` is the second term. Where
    ``["effective_lr"]`` equals it the drift limited the step, else the loss did.

    Raises:
        TypeError, ValueError: as for `CLR` with drift.

    Example:
        >>> import torch
        >>> x = torch.nn.Parameter(torch.tensor([3.0, -4.0]))
        >>> opt = CLRAdam([x])
        >>> for _ in range(100):
        ...     opt.zero_grad()
        ...     loss = opt.watch((x[0] - 1.0) ** 2 + 100.0 * x[1] ** 2)
        ...     loss.backward()
        ...     opt.step()
        >>> loss.item() < 0.5  # of 1604
        True

    Reference:
        Dherin and Rosca (2024) for corridors and CLR, Schaipp et al. (2024) for the momentum
        model, Rosca et al. (2023) for the drift-adjusted rate. Their union in one metric is new.
    """

    MOTION = Average(Adam())
    LIMITS = (CoherentDrift(),)

    def __init__(
        self,
        params: Params,
        max_lr: float = math.inf,
        *,
        f_star: float = 0.0,
        momentum: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        drift: float = 3.0,
        every: int = 20,
        weight_decay: float = 0.0,
        average_loss: bool = True,
    ) -> None:
        self._begin(locals())
