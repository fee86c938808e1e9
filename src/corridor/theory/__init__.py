"""Check the statements of the paper, and compute what follows beyond it."""

from corridor.theory import beyond
from corridor.theory.appendix import (
    appendix_a_2,
    appendix_a_3,
    appendix_c,
    batch_gradient_identity,
    kantorovich,
    lemma_a_1,
    misaligned_displacement,
    momentum_distance,
    momentum_flow,
    momentum_velocity,
    remark_a_3,
)
from corridor.theory.corridors import (
    Check,
    horizon,
    lemma_2_8,
    lemma_2_9,
    proposition_2_10,
    stays_inside,
    theorem_3_1,
    theorem_3_1_converse,
)
from corridor.theory.detector import Detection, Straightness, detect, straightness

__all__ = ["Check", "Detection", "Straightness", "beyond", "detect", "horizon", "straightness"]
__all__ += ["appendix_a_2", "appendix_a_3", "appendix_c", "batch_gradient_identity", "kantorovich"]
__all__ += ["lemma_2_8", "lemma_2_9", "lemma_a_1", "misaligned_displacement", "momentum_distance"]
__all__ += ["momentum_flow", "momentum_velocity", "proposition_2_10", "remark_a_3", "stays_inside"]
__all__ += ["theorem_3_1", "theorem_3_1_converse"]
