"""RMS calibration error: how far a network's confidence is from how often it is right.

Definition: Hendrycks, Mazeika & Dietterich, "Deep Anomaly Detection with Outlier Exposure" (ICLR 2019), the RMS
calibration error that PixMix (Hendrycks et al., CVPR 2022, section 3.1, "Calibration") reports, with the adaptive bins
of Nguyen & O'Connor, "Posterior calibration and exploratory analysis for natural language processing models" (EMNLP
2015). The samples are sorted by confidence and cut into consecutive bins b of equal count; then

    sqrt( sum_b  n_b / N  (mean confidence in b - accuracy in b)^2 ).

Where we differ: the code that accompanies both papers never looks at its last bin, the most confident one, while N
stays the full count; with 10,000 samples that drops 1 % of them, with fewer than 200 all. `rms_calibration_error` is
the definition. `rms_calibration_error_without_last_bin` is that code's number, to set beside published ones.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixmix_ray.errors import RequestError
from pixmix_ray.metrics.arrays import check_same_length, flags, fractions

BIN_SIZE = 100
"""Samples in a bin, as in both papers' code."""


def rms_calibration_error(confidence: ArrayLike, correct: ArrayLike, bin_size: int = BIN_SIZE) -> float:
    """The RMS calibration error, a fraction in [0, 1]; lower is better.

    By hand: two bins of two. Confidence .5, .5 with one right: gap 0. Confidence .9, .9 with none right: gap .9. So
    sqrt(1/2 * 0 + 1/2 * .81) = .6364.

    >>> round(rms_calibration_error([0.9, 0.5, 0.9, 0.5], [False, True, False, False], bin_size=2), 4)
    0.6364

    Args:
        confidence: (N,) probability of the predicted class, in [0, 1], in any order.
        correct: (N,) whether the prediction was right.
        bin_size: samples in a bin; the last bin absorbs the remainder, and fewer samples than this make one bin.
            Samples of equal confidence are binned in the order given.

    Raises:
        RequestError: empty, lengths differ, not finite, outside [0, 1], or `bin_size` below 1.
    """
    return float(np.sqrt(_bin_terms(confidence, correct, bin_size).sum()))


def rms_calibration_error_without_last_bin(
    confidence: ArrayLike, correct: ArrayLike, bin_size: int = BIN_SIZE
) -> float:
    """The RMS calibration error as the official code computes it: the most confident bin counts as perfect.

    A fraction in [0, 1]; lower is better. `bin_size` to 2 * `bin_size` - 1 samples give 0, whatever the network does.
    By hand: the example of `rms_calibration_error` without its bin of gap .9 leaves 0.

    >>> rms_calibration_error_without_last_bin([0.9, 0.5, 0.9, 0.5], [False, True, False, False], bin_size=2)
    0.0

    Args:
        confidence: (N,) probability of the predicted class, in [0, 1], in any order.
        correct: (N,) whether the prediction was right.
        bin_size: samples in a bin; the last bin absorbs the remainder and is dropped.

    Raises:
        RequestError: as `rms_calibration_error`, and fewer than `bin_size` samples (the official code crashes).
    """
    terms = _bin_terms(confidence, correct, bin_size)
    count = np.size(confidence)
    if count < bin_size:
        raise RequestError(
            f"rms_calibration_error_without_last_bin needs at least bin_size = {bin_size} samples, got {count}: "
            "use rms_calibration_error, or a smaller bin_size"
        )
    return float(np.sqrt(terms[:-1].sum()))


def _bin_terms(confidence: ArrayLike, correct: ArrayLike, bin_size: int) -> NDArray[np.float64]:
    """n_b / N (mean confidence - accuracy)^2 of each bin, (B,), from the least to the most confident."""
    probability, right = fractions("confidence", confidence), flags("correct", correct)
    check_same_length(confidence=probability, correct=right)
    if bin_size < 1:
        raise RequestError(f"bin_size must be 1 or more, got {bin_size}: the papers use 100")
    order = np.argsort(probability, kind="stable")
    gaps = probability[order] - right[order]
    starts = np.arange(max(len(gaps) // bin_size, 1)) * bin_size
    counts = np.diff(starts, append=len(gaps))
    terms: NDArray[np.float64] = np.add.reduceat(gaps, starts) ** 2 / counts / len(gaps)
    return terms
