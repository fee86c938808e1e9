"""Read formulas as data, and prove by algebra whether they are corridors."""

from corridor.proofs.proof import Proof, ProvedPiece, Verdict, prove

__all__ = ["Proof", "ProvedPiece", "Verdict", "prove"]
