"""Verdicts on formulas by algebra."""

from corridor.proofs.expression import Expression
from corridor.proofs.proof import Proof, prove

__all__ = ["Expression", "Proof", "prove"]
