"""Calibration, how far a network's confidence is from how often it is right; and proper scores of all it says.

Definition: Hendrycks, Mazeika & Dietterich, "Deep Anomaly Detection with Outlier Exposure" (ICLR 2019), whose RMS
calibration error PixMix (Hendrycks et al., CVPR 2022, section 3.1, "Calibration") reports, with the adaptive bins of
Nguyen & O'Connor, "Posterior calibration and exploratory analysis for natural language processing models" (EMNLP 2015).
The samples are sorted by confidence and cut into consecutive bins b of equal count; then

    sqrt( sum_b  n_b / N  (mean confidence in b - accuracy in b)^2 ),

and the mean absolute error (MAD in that code) is sum_b n_b / N |mean confidence in b - accuracy in b|. Soft F1 is of
the same paper, and the area under the response-rate accuracy curve of Hendrycks et al., "Natural Adversarial Examples"
(CVPR 2021), section 3; both are in the `calibration_tools` of these papers' code.

Where we differ: the code that accompanies the papers never looks at its last bin, the most confident one, while N stays
the full count; with 10,000 samples that drops 1 % of them, with fewer than 200 all. `rms_calibration_error` and
`mean_absolute_calibration_error` are the definitions. Their variants `..._without_last_bin` are that code's numbers, to
set beside published ones. Of pictures of equal confidence, which a third of CIFAR's have (exactly 1 in float32), each
counts here as their mean, whatever their order; that code takes them as its unstable sort leaves them, so that its
numbers are arbitrary there, by up to a quarter of a percent.

Proper scores of the whole predicted distribution: negative log-likelihood and Brier score.

Both are best, in expectation, for a network that says the true probabilities, so they punish mistakes and bad
calibration at once (Gneiting & Raftery, "Strictly Proper Scoring Rules, Prediction, and Estimation", JASA 102(477),
2007). They are means of one number a picture, which is what is stored of a distribution: its logarithms and
exponentials are taken where the network runs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixmix_ray.errors import RequestError
from pixmix_ray.metrics.arrays import check_same_length, flags, fractions, numbers

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
            Samples of equal confidence count as their mean.

    Raises:
        RequestError: empty, lengths differ, not finite, outside [0, 1], or `bin_size` below 1.
    """
    return float(np.sqrt(_bins(confidence, correct, bin_size).squares.sum()))


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
    return float(np.sqrt(_checked_bins(confidence, correct, bin_size).squares[:-1].sum()))


def mean_absolute_calibration_error(confidence: ArrayLike, correct: ArrayLike, bin_size: int = BIN_SIZE) -> float:
    """The mean absolute calibration error, a fraction in [0, 1]; lower is better.

    By hand: the bins of `rms_calibration_error` have gaps 0 and .9, so 1/2 * 0 + 1/2 * .9.

    >>> mean_absolute_calibration_error([0.9, 0.5, 0.9, 0.5], [False, True, False, False], bin_size=2)
    0.45

    Args:
        confidence: (N,) probability of the predicted class, in [0, 1], in any order.
        correct: (N,) whether the prediction was right.
        bin_size: as for `rms_calibration_error`.

    Raises:
        RequestError: as `rms_calibration_error`.
    """
    return float(_bins(confidence, correct, bin_size).sizes.sum())


def mean_absolute_calibration_error_without_last_bin(
    confidence: ArrayLike, correct: ArrayLike, bin_size: int = BIN_SIZE
) -> float:
    """The mean absolute calibration error as the official code computes it: the most confident bin counts as perfect.

    A fraction in [0, 1]; lower is better. By hand: the example above without its bin of gap .9 leaves 0.

    >>> mean_absolute_calibration_error_without_last_bin([0.9, 0.5, 0.9, 0.5], [False, True, False, False], bin_size=2)
    0.0

    Args:
        confidence: (N,) probability of the predicted class, in [0, 1], in any order.
        correct: (N,) whether the prediction was right.
        bin_size: as for `rms_calibration_error_without_last_bin`.

    Raises:
        RequestError: as `rms_calibration_error_without_last_bin`.
    """
    return float(_checked_bins(confidence, correct, bin_size).sizes[:-1].sum())


def soft_f1(confidence: ArrayLike, correct: ArrayLike) -> float:
    """The soft F1 score of a network that flags its own mistakes by its doubt, in [0, 1]; higher is better.

    Wrong predictions are the positive class, and 1 - confidence is how far each is flagged: with soft counts of hits,
    misses and false alarms, F1 is 2 sum((1 - confidence) wrong) / sum(1 - confidence + wrong). By hand: doubts .4, .1
    and .5, the first and the last wrong: 2 (.4 + .5) / (1 + 2). A network that is never wrong nor in doubt has 1; the
    official code divides 0 by 0 there.

    >>> round(soft_f1([0.6, 0.9, 0.5], [False, True, False]), 6)
    0.6

    Args:
        confidence: (N,) probability of the predicted class, in [0, 1].
        correct: (N,) whether the prediction was right.

    Raises:
        RequestError: empty, lengths differ, not finite or outside [0, 1].
    """
    probability, right = _checked(confidence, correct)
    doubt, wrong = 1 - probability, ~right
    total = (doubt + wrong).sum()
    return float(2 * doubt[wrong].sum() / total) if total > 0 else 1.0


def aurra(confidence: ArrayLike, correct: ArrayLike) -> float:
    """The area under the response-rate accuracy curve, in [0, 1]; higher is better.

    A network that may stay silent where it is least sure answers a share of the pictures, the response rate: this is
    the mean, over the N response rates k / N, of its accuracy among the k most confident. By hand: in the order of
    confidence right, wrong, right, so (1 + 1/2 + 2/3) / 3. Of pictures of equal confidence each counts as their mean,
    which is what orders drawn at random give on average; the official code takes them in the order of its sort.

    >>> round(aurra([0.6, 0.9, 0.5], [False, True, True]), 4)
    0.7222

    Args:
        confidence: (N,) probability of the predicted class, in [0, 1], in any order.
        correct: (N,) whether the prediction was right.

    Raises:
        RequestError: empty, lengths differ, not finite or outside [0, 1].
    """
    probability, right = _checked(confidence, correct)
    order = np.argsort(-probability, kind="stable")
    shares = _mean_of_ties(probability[order], right[order])
    return float((np.cumsum(shares) / np.arange(1, len(order) + 1)).mean())


def _mean_of_ties(ordered: NDArray[np.float64], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N,) for each of the confidences (N,), equal ones side by side, the share of its equals that are right."""
    starts = np.flatnonzero(np.diff(ordered, prepend=2.0))
    counts = np.diff(starts, append=len(ordered))
    return np.repeat(np.add.reduceat(right.astype(np.float64), starts) / counts, counts)


@dataclass(frozen=True, kw_only=True)
class _Bins:
    """What each bin adds to the squared and to the absolute error, (B,) each, from the least to the most confident."""

    squares: NDArray[np.float64]
    sizes: NDArray[np.float64]


def _checked(confidence: ArrayLike, correct: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    probability, right = fractions("confidence", confidence), flags("correct", correct)
    check_same_length(confidence=probability, correct=right)
    return probability, right


def _bins(confidence: ArrayLike, correct: ArrayLike, bin_size: int) -> _Bins:
    """n_b / N times the gap of each bin, squared or absolute."""
    probability, right = _checked(confidence, correct)
    if not isinstance(bin_size, int | np.integer) or bin_size < 1:
        raise RequestError(f"bin_size must be an integer, 1 or more, got {bin_size}: the papers use 100")
    order = np.argsort(probability, kind="stable")
    gaps = probability[order] - _mean_of_ties(probability[order], right[order])
    starts = np.arange(max(len(gaps) // bin_size, 1)) * bin_size
    counts = np.diff(starts, append=len(gaps))
    sums = np.add.reduceat(gaps, starts)
    return _Bins(squares=sums**2 / counts / len(gaps), sizes=np.abs(sums) / len(gaps))


def _checked_bins(confidence: ArrayLike, correct: ArrayLike, bin_size: int) -> _Bins:
    """The bins, of which there must be one that the official code would make."""
    bins = _bins(confidence, correct, bin_size)
    if (count := np.size(confidence)) < bin_size:
        raise RequestError(
            f"a calibration error without the last bin needs at least bin_size = {bin_size} samples, got {count}: "
            "take the one with it, or a smaller bin_size"
        )
    return bins


def negative_log_likelihood(label_log_probability: ArrayLike) -> float:
    """The mean of minus the logarithm of the true class's probability, in nats, 0 or more; lower is better.

    It is no fraction and has no upper bound: ln K is what K equal probabilities give. By hand: probabilities 1/2 and
    1/8 have logarithms -ln 2 and -3 ln 2, so 2 ln 2.

    >>> round(negative_log_likelihood([-0.693147, -2.079442]), 4)
    1.3863

    Args:
        label_log_probability: (N,) natural logarithm of the probability of the true class, 0 or less.

    Raises:
        RequestError: empty, not finite or above 0.
    """
    logarithms = numbers("label_log_probability", label_log_probability)
    if (bad := logarithms.max()) > 0:
        raise RequestError(f"label_log_probability must be 0 or less, got {bad:g}: give logarithms of probabilities")
    return float(-logarithms.mean() + 0.0)  # not -0


def brier_score(squared_error: ArrayLike) -> float:
    """The mean over pictures of sum_k (p_k - [k is the true class])^2, in [0, 2]; lower is better.

    Source: Brier, "Verification of Forecasts Expressed in Terms of Probability" (Monthly Weather Review 78(1), 1950),
    with the sum over all classes, as there; where two classes are meant, some take half. By hand: (.8, .2) has
    .2^2 + .2^2 = .08 if the first is true and .8^2 + .8^2 = 1.28 if the second is.

    >>> round(brier_score([0.08, 1.28]), 4)
    0.68

    Args:
        squared_error: (N,) the sum of each picture, in [0, 2].

    Raises:
        RequestError: empty, not finite or outside [0, 2].
    """
    errors = numbers("squared_error", squared_error)
    if (
        errors.min() < 0 or errors.max() > 2 + 1e-5
    ):  # sums of squares of float32 probabilities, which add up nearly to 1
        bad = errors.min() if errors.min() < 0 else errors.max()
        raise RequestError(f"squared_error must be in [0, 2], got {bad:g}: give sums over the classes")
    return float(errors.mean())
