"""``corridor.prove``: is a formula a corridor, by algebra, with a witness if it is not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from corridor.proofs import prover as program
from corridor.proofs.expression import Tree, named_variables, parse, parse_condition
from corridor.surfaces.base import Verdict


@dataclass(frozen=True)
class ProvedPiece:
    """One smooth piece of the formula.

    Attributes:
        where: the condition that holds on it, as text.
        hg: the components of Hg as SymPy expressions, None where they could not be had.
        speed: the constant ``||g||`` on it, a SymPy number, or None.
    """

    where: str
    hg: tuple[Any, ...] | None
    speed: Any


@dataclass(frozen=True)
class Proof:
    """What could be shown of a formula; true if it is a corridor.

    Attributes:
        expression: the formula.
        variables: in the order of `hg`.
        verdict: corridor, weak corridor, not a corridor, or undecided.
        pieces: of the formula; for one that is no corridor, the piece with the witness.
        excluded: where the verdict says nothing: kinks, poles, the ends of the domain.
        witness: a point with ``Hg != 0``, by variable, for a formula that is no corridor.
        evidence: points looked at, the largest ``||Hg||`` there, and why it was left undecided.
    """

    expression: str
    variables: tuple[str, ...]
    verdict: Verdict
    pieces: tuple[ProvedPiece, ...] = ()
    excluded: tuple[str, ...] = ()
    witness: dict[str, str] | None = None
    evidence: dict[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.verdict is Verdict.CORRIDOR

    @property
    def hg(self) -> tuple[Any, ...] | None:
        """Hg as SymPy expressions: on the first piece, all zeros for a corridor."""
        return self.pieces[0].hg if self.pieces else None

    @property
    def speed(self) -> Any:
        """The constant ``||g||``, a SymPy number; None if there is none, or not one for all."""
        speeds = {piece.speed for piece in self.pieces}
        return speeds.pop() if len(speeds) == 1 else None

    def __str__(self) -> str:
        lines = [f"{self.expression}: {self.verdict.value}"]
        if self:
            lines += [self._speed_line()]
        elif self.witness is not None:
            point = ", ".join(f"{k} = {v}" for k, v in self.witness.items())
            values = ", ".join(f"{v:.4g}" for v in self.evidence.get("hg_at_witness", ()))
            lines += [f"Hg = ({values}) at {point}"]
        else:
            largest = self.evidence.get("largest", float("nan"))
            looked = f"largest ||Hg|| {largest:.2g} at {self.evidence.get('points', 0)} points"
            lines += [f"{self.evidence.get('reason', 'no proof found')}; {looked}"]
        if self.excluded:
            lines += ["excluded: " + "; ".join(self.excluded)]
        return "\n".join(lines)

    def _speed_line(self) -> str:
        if self.speed is not None:
            return f"Hg = 0, speed {self.speed}"
        parts = [f"{piece.speed} where {piece.where}" for piece in self.pieces]
        return "Hg = 0, speed " + "; ".join(parts)


def prove(
    expression: str,
    variables: Sequence[str] | None = None,
    domain: str | Sequence[str] | None = None,
    *,
    time_limit: float = 20.0,
) -> Proof:
    """Whether a formula is a corridor, ``H grad f = 0`` on its domain off an excluded set.

    The formula is data: it is read by a grammar of numbers, variables and known functions, and
    nothing of it is ever evaluated as code. SymPy works in a process of its own, which is stopped
    at the time limit. As ``H g = grad ||g||^2 / 2`` the proof looks for one constant ``||g||``, on
    every smooth piece; a formula that is no corridor is refuted by a rational point with
    ``Hg != 0`` to 40 digits.

    Args:
        expression: such as ``sqrt(x**2 + y**2)``, ``abs(x) + max(y, 0)``, ``x if x > 0 else -x``.
        variables: all of them, in order; those that occur by default.
        domain: conditions that hold, such as ``x > 0``.
        time_limit: seconds.

    Returns:
        The proof, undecided if neither algebra nor a witness was found in time.

    Raises:
        ImportError: SymPy is missing.
        ValueError: the expression cannot be read, or has no real values on the domain.

    Example:
        >>> found = prove("sqrt(x**2 + y**2)")
        >>> bool(found), found.speed, found.hg, found.excluded
        (True, 1, (0, 0), ('x = y = 0',))
        >>> print(prove("x*y"))
        x*y: not a corridor
        Hg = (1.375, 1.031) at x = 11/8, y = 33/32

    Reference:
        Dherin and Rosca (2024), "Corridor Geometry in Gradient-Based Optimization", theorem 2.11.
    """
    if find_spec("sympy") is None:
        raise ImportError('proofs need sympy; pip install "corridor[proofs]"')
    if not time_limit > 0.0:
        raise ValueError(f"time_limit must be positive, got {time_limit}")
    tree = parse(expression)
    names = named_variables(tree, variables)
    texts = [domain] if isinstance(domain, str) else list(domain or [])
    conditions = [parse_condition(text) for text in texts]
    for condition in conditions:
        named_variables(condition, names)
    request = {
        "tree": tree,
        "variables": names,
        "domain": conditions,
        "positive": [name for name in names if _positive(name, conditions)],
        "seed": 0,
    }
    answer = _ask(request, time_limit)
    if "failed" in answer and answer["failed"].startswith("ValueError: "):
        raise ValueError(answer["failed"].removeprefix("ValueError: "))
    return _read(expression, names, answer)


def _positive(name: str, conditions: Sequence[Tree]) -> bool:
    """Whether a condition says plainly that a variable is positive."""
    zero = ["num", 0, 1]
    plain = (["cmp", ">", ["sym", name], zero], ["cmp", "<", zero, ["sym", name]])
    return any(condition in plain for condition in conditions)


def _ask(request: dict[str, Any], time_limit: float) -> dict[str, Any]:
    """Have the prover answer in a process of its own, killed when its time is up."""
    command = [sys.executable, "-P", str(Path(program.__file__))]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=time_limit,
            check=False,
        )
        said, reason = done.stdout, "the prover ran out of memory or failed"
    except subprocess.TimeoutExpired as expired:
        partial = expired.stdout or b""
        said = partial.decode() if isinstance(partial, bytes) else partial
        reason = f"the time limit of {time_limit:g} s was reached"
    answers = [json.loads(line) for line in said.splitlines() if line.endswith("}")]
    last: dict[str, Any] = answers[-1] if answers else {}
    if "failed" in last:
        return {**(answers[0] if len(answers) > 1 else {}), **last}
    return last if "verdict" in last else {**last, "failed": reason}


def _read(expression: str, names: list[str], answer: dict[str, Any]) -> Proof:
    pieces = tuple(
        ProvedPiece(
            piece["where"],
            None if piece["hg"] is None else program.revive(piece["hg"], names),
            None if piece["speed"] is None else program.revive([piece["speed"]], names)[0],
        )
        for piece in answer.get("pieces", ())
    )
    evidence = {k: answer[k] for k in ("points", "largest", "hg_at_witness") if k in answer}
    if "failed" in answer:
        evidence["reason"] = answer["failed"]
    return Proof(
        expression,
        tuple(names),
        Verdict(answer.get("verdict", Verdict.UNDECIDED.value)),
        pieces,
        tuple(answer.get("excluded", ())),
        answer.get("witness"),
        evidence,
    )
