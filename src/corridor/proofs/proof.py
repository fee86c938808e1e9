"""Decide by algebra whether a formula is a corridor: ``corridor.prove``."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from corridor._extras import required
from corridor.proofs.expression import named_variables, parse, parse_condition, variables_of

LONGEST_WAIT = 1e6  # seconds; the system's timers overflow above


class Verdict(StrEnum):
    """Describe steepest descent on a loss, away from its kinks.

    Its lines are straight in a corridor, at constant speed (``Hg = 0``). In a weak corridor they
    are straight and change speed (``Hg`` is parallel to ``g``).
    """

    CORRIDOR = "corridor"
    WEAK = "weak corridor"
    NEITHER = "not a corridor"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class ProvedPiece:
    """Hold the result on one smooth piece of the formula.

    Attributes:
        where: condition that holds on the piece, as text.
        hg: components of Hg as SymPy expressions, or None if they have no closed form here.
        speed: constant ``||g||`` on the piece, a SymPy number, or None.
    """

    where: str
    hg: tuple[Any, ...] | None
    speed: Any


@dataclass(frozen=True)
class Proof:
    """Hold the verdict on a formula with its reasons; true if the formula is a corridor.

    Attributes:
        expression: the formula.
        variables: names of the variables, in the order of `hg`.
        verdict: corridor, weak corridor, not a corridor, or undecided.
        pieces: smooth pieces of the formula; only the piece with the witness if there is one.
        excluded: sets on which the verdict does not hold: kinks, poles and ends of the domain.
        witness: a point with ``Hg != 0``, by variable, if the formula is not a corridor.
        evidence: number of points evaluated, largest ``||Hg||`` there, and the reason if undecided.
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
        """Return Hg on the first piece as SymPy expressions, all 0 for a corridor."""
        return self.pieces[0].hg if self.pieces else None

    @property
    def speed(self) -> Any:
        """Return the constant ``||g||`` as a SymPy number, None if pieces differ or have none."""
        speeds = {piece.speed for piece in self.pieces}
        return speeds.pop() if len(speeds) == 1 else None

    def __str__(self) -> str:
        excluded = ["excluded: " + "; ".join(self.excluded)] if self.excluded else []
        return "\n".join([f"{self.expression}: {self.verdict.value}", self._reason(), *excluded])

    def _reason(self) -> str:
        if self:
            speeds = (f"{piece.speed} where {piece.where}" for piece in self.pieces)
            return f"Hg = 0, speed {'; '.join(speeds) if self.speed is None else self.speed}"
        if self.witness is not None:
            point = ", ".join(f"{k} = {v}" for k, v in self.witness.items())
            return f"Hg = ({', '.join(self.evidence['digits'])}) at {point}"
        found = {"reason": "no proof found", "largest": float("nan"), "points": 0, **self.evidence}
        return "{reason}; largest ||Hg|| {largest:.2g} at {points} points".format_map(found)


# corridor itself would import torch, for seconds. Files of the working directory hide no library.
PROGRAM = """
import sys, types
for name in ("corridor", "corridor.proofs"):
    sys.modules[name] = types.ModuleType(name)
sys.modules[name].__path__ = sys.argv[1:]
from corridor.proofs import prover
prover.main()
"""


def prove(
    expression: str,
    variables: Sequence[str] | None = None,
    *,
    constants: Sequence[str] = (),
    domain: str | Sequence[str] | None = None,
    time_limit: float = 20.0,
) -> Proof:
    """Decide whether a formula f is a corridor: ``H grad f = 0`` on its domain.

    The formula is data, and none of it is evaluated as code. SymPy runs in a separate process.
    Since ``H g = grad ||g||^2 / 2``, the proof looks for a constant ``||g||`` on every smooth
    piece. A rational point with ``Hg != 0`` to 40 digits refutes a formula. The verdict "weak
    corridor" also needs a proof that Hg is parallel to g, otherwise the formula is undecided.

    Args:
        expression: the formula, such as ``abs(x) + max(y, 0)`` or ``x if x > 0 else -x``.
        variables: names of all variables, in order. Default: those that occur, alphabetically.
        constants: names of real constants; the verdict holds for all their values. Default: none.
        domain: one or more conditions that hold, such as ``x > 0``. Default: none.
        time_limit: seconds until the verdict is undecided, positive; may be inf. Default: 20.

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
    with required("sympy", extra="proofs"):
        from corridor.proofs import prover
    if not time_limit > 0.0:
        raise ValueError(f"time_limit must be positive, got {time_limit}; pass a number of seconds")
    tree = parse(expression)
    names = named_variables(tree, variables, constants)
    texts = [domain] if isinstance(domain, str) else domain or ()
    conditions, known = [parse_condition(text) for text in texts], [*names, *constants]
    others = sorted({name for part in conditions for name in variables_of(part)} - set(known))
    if others:
        need = f"domain's variables must be in the expression, {known}"
        raise ValueError(f"{need}, got {others}")
    request = {"tree": tree, "variables": names, "constants": [*constants], "domain": conditions}
    answer = _ask(request, time_limit)
    failed = str(answer.get("failed", ""))
    if failed.startswith("ValueError: "):
        raise ValueError(failed.removeprefix("ValueError: "))
    pieces = []
    for piece in answer.get("pieces", ()):
        hg, speed = (prover.revive(piece[name], known) for name in ("hg", "speed"))
        pieces.append(ProvedPiece(piece["where"], hg, speed and speed[0]))
    return Proof(
        expression,
        tuple(names),
        Verdict(answer.get("verdict", Verdict.UNDECIDED)),
        tuple(pieces),
        tuple(answer.get("excluded", ())),
        answer.get("witness"),
        answer.get("evidence", {}) | ({"reason": failed} if failed else {}),
    )


def _ask(request: dict[str, Any], time_limit: float) -> dict[str, Any]:
    """Return the answer of a prover process, which is killed at the time limit."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", PROGRAM, str(Path(__file__).parent)],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=time_limit if time_limit < LONGEST_WAIT else None,
            check=False,
        )
        output, reason = done.stdout, "the prover ran out of memory or failed"
    except subprocess.TimeoutExpired as expired:
        output = expired.stdout or ""
        output = output.decode() if isinstance(output, bytes) else output
        reason = f"the time limit of {time_limit:g} s was reached"
    # A killed process may leave an unfinished last line.
    answer: dict[str, Any] = {}
    for line in output.splitlines():
        answer |= json.loads(line) if line.endswith("}") else {}
    return answer if {"verdict", "failed"} & answer.keys() else {**answer, "failed": reason}
