"""Define type aliases that all folders use."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from torch import Tensor

Tensors: TypeAlias = Sequence[Tensor]
Params: TypeAlias = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]
LossClosure: TypeAlias = Callable[[], Any]
