"""corridor: step sizes without tuning, from the corridor geometry of the loss surface.

>>> import torch, corridor
>>> model = torch.nn.Linear(2, 1)
>>> opt = corridor.CLR(model.parameters())  # no learning rate to choose
>>> loss = (model(torch.ones(4, 2)) - 1.0).square().mean()
>>> loss.backward()
>>> _ = opt.step(loss=loss)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from corridor import flows, geometry, integrations, optim, surfaces, theory, train
    from corridor.geometry import Measures, Probe, measure, measure_dataset
    from corridor.optim import CLR, CLRAdam
    from corridor.proofs import prove

__version__ = "0.1.0"

__all__ = ["CLR", "CLRAdam", "Measures", "Probe", "flows", "geometry", "integrations", "measure"]
__all__ += ["measure_dataset", "optim", "prove", "surfaces", "theory", "train"]

_HOMES = {
    **dict.fromkeys(("Measures", "Probe", "measure", "measure_dataset"), "corridor.geometry"),
    **dict.fromkeys(("CLR", "CLRAdam"), "corridor.optim"),
    "prove": "corridor.proofs",
}

# Type checkers read the imports above. With this function they would accept every name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a name at its first use, because ``corridor --version`` has no use for torch."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name not in _HOMES:
            return import_module(f"{__name__}.{name}")
        found = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return found


def __dir__() -> list[str]:
    """Return all names, those not yet imported included."""
    return sorted({*globals(), *__all__})
