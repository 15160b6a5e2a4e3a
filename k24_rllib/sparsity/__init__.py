"""Learned sparsity per mask owner in plain PyTorch, without Ray: modules A, B and C of K-2:4, and Kaleidoscope."""

from k24_rllib.sparsity.diversity import (
    DIVERSITY_LOSSES,
    AdaptiveDiversityCoefficient,
    diversity_loss,
    pattern_orthogonality_loss,
    similarity_floor,
)
from k24_rllib.sparsity.hyper import HyperLinear, HyperWeights
from k24_rllib.sparsity.joint import JointPatterns
from k24_rllib.sparsity.kaleidoscope import KaleidoscopeLinear, kaleidoscope_diversity_loss
from k24_rllib.sparsity.layer import LAYERS, DenseLinear, IndependentLinear, JointWeights, LayerWeights, MaskedLayer
from k24_rllib.sparsity.memory import Memory
from k24_rllib.sparsity.metrics import MaskFlipTracker, kaleidoscope_metrics, pattern_metrics
from k24_rllib.sparsity.packed import KeptWeights
from k24_rllib.sparsity.patterns import (
    ESTIMATORS,
    NM_RATIOS,
    SAMPLING,
    PatternDraw,
    PatternWeights,
    check_estimator,
    nm_patterns,
    normalize_logits,
    sample_patterns,
)
from k24_rllib.sparsity.schedules import SCHEDULES, temperature_at
from k24_rllib.sparsity.scores import SCORES, EMAActivationTracker, hetero_scores
from k24_rllib.sparsity.semi_structured import MASKS, REVIVE, SemiStructuredLinear, SemiStructuredLinear24

__all__ = [
    "DIVERSITY_LOSSES",
    "ESTIMATORS",
    "LAYERS",
    "MASKS",
    "NM_RATIOS",
    "REVIVE",
    "SAMPLING",
    "SCHEDULES",
    "SCORES",
    "AdaptiveDiversityCoefficient",
    "DenseLinear",
    "EMAActivationTracker",
    "HyperLinear",
    "HyperWeights",
    "IndependentLinear",
    "JointPatterns",
    "JointWeights",
    "KaleidoscopeLinear",
    "KeptWeights",
    "LayerWeights",
    "MaskFlipTracker",
    "MaskedLayer",
    "Memory",
    "PatternDraw",
    "PatternWeights",
    "SemiStructuredLinear",
    "SemiStructuredLinear24",
    "check_estimator",
    "diversity_loss",
    "hetero_scores",
    "kaleidoscope_diversity_loss",
    "kaleidoscope_metrics",
    "nm_patterns",
    "normalize_logits",
    "pattern_metrics",
    "pattern_orthogonality_loss",
    "sample_patterns",
    "similarity_floor",
    "temperature_at",
]
