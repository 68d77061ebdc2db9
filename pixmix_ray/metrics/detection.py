"""Detection of out-of-distribution pictures: AUROC, AUPR, false-positive rate at 95 % recall.

Definitions and protocol: Hendrycks & Gimpel (ICLR 2017) and Hendrycks, Mazeika & Dietterich, "Deep Anomaly Detection
with Outlier Exposure" (ICLR 2019), section 4.1; PixMix (section 3.1, "Anomaly Detection") reports AUROC and, in its
appendix, AUPR. One convention throughout: out of distribution is the positive class, and a higher score means a
stranger picture. AUROC and AUPR are scikit-learn's, as in the papers' code.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixmix_ray.errors import RequestError
from pixmix_ray.metrics.arrays import check_same_length, flags, numbers


def auroc(scores: ArrayLike, is_ood: ArrayLike) -> float:
    """The area under the ROC curve, in [0, 1]; higher is better, 0.5 is chance.

    It is the probability that a strange picture scores above an ordinary one, ties counting half. By hand: of the four
    pairs (.9, .8), (.9, .1), (.4, .8), (.4, .1) three are in the right order.

    >>> auroc([0.9, 0.4, 0.8, 0.1], [True, True, False, False])
    0.75

    Args:
        scores: (N,) anomaly scores, higher for stranger pictures, finite.
        is_ood: (N,) whether the picture is out of distribution; both kinds must be there.

    Raises:
        RequestError: empty, lengths differ, not finite, or only one kind of picture.
    """
    from sklearn.metrics import roc_auc_score  # a second to import, and most who import a metric need none of it

    sample = _checked(scores, is_ood)
    return float(roc_auc_score(sample.is_ood, sample.scores))


def aupr(scores: ArrayLike, is_ood: ArrayLike) -> float:
    """The area under the precision-recall curve as average precision, in [0, 1]; higher is better.

    Chance is the share of strange pictures: 1/6 where there is one for five ordinary ones. By hand: the strange ones
    come first (precision 1) and third (precision 2/3), each half of the recall: 1/2 + 1/3.

    >>> round(aupr([0.9, 0.4, 0.8, 0.1], [True, True, False, False]), 4)
    0.8333

    Args:
        scores: (N,) anomaly scores, higher for stranger pictures, finite.
        is_ood: (N,) whether the picture is out of distribution; both kinds must be there.

    Raises:
        RequestError: as `auroc`.
    """
    from sklearn.metrics import average_precision_score

    sample = _checked(scores, is_ood)
    return float(average_precision_score(sample.is_ood, sample.scores))


def fpr_at_recall(scores: ArrayLike, is_ood: ArrayLike, recall: float = 0.95) -> float:
    """The share of ordinary pictures that are flagged where `recall` of the strange ones are; lower is better.

    A fraction in [0, 1]. The thresholds are the distinct scores (ties are flagged together). The one used is that whose
    recall is CLOSEST to `recall`, be it below or above, as in the papers' code; of two equally close, the one that its
    subtraction in float64 makes closer, and if none, the one with the higher recall; of several with one recall, the
    lowest (up to the first that reaches recall 1). By hand: recall is
    1/2 at thresholds .9 and .8, and 1 at .4, the closest to .95, where one of the two ordinary pictures is flagged.

    >>> fpr_at_recall([0.9, 0.4, 0.8, 0.1], [True, True, False, False])
    0.5

    Args:
        scores: (N,) anomaly scores, higher for stranger pictures, finite.
        is_ood: (N,) whether the picture is out of distribution; both kinds must be there.
        recall: the share of strange pictures to flag, in (0, 1].

    Raises:
        RequestError: as `auroc`, or `recall` outside (0, 1].
    """
    if not 0 < recall <= 1:
        raise RequestError(f"recall must be in (0, 1], got {recall}: give a fraction, such as 0.95")
    sample = _checked(scores, is_ood)
    order = np.argsort(-sample.scores, kind="stable")
    lasts = np.flatnonzero(np.diff(sample.scores[order], append=-np.inf))  # the last picture flagged at each threshold
    hits = np.cumsum(sample.is_ood[order])[lasts]
    false_alarms = lasts + 1 - hits
    end = int(np.searchsorted(hits, hits[-1])) + 1
    # as that code computes it, its rounding included; backwards, so that the first minimum is the rule's
    distances = np.abs(hits[:end] / hits[-1] - recall)[::-1]
    chosen = end - 1 - int(np.argmin(distances))
    return float(false_alarms[chosen] / (~sample.is_ood).sum())


def auroc_standard_error(scores: ArrayLike, is_ood: ArrayLike) -> float:
    """The standard error of the AUROC of these scores, a fraction.

    DeLong, DeLong & Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating characteristic
    curves: a nonparametric approach" (Biometrics 44:837-845, 1988). For each strange picture V10 is the share of
    ordinary ones below it, ties counting half, and V01 for each ordinary one the share of strange ones above it; the
    variance is Var(V10) / num_ood + Var(V01) / num_in, with n - 1 in the denominators. No distribution is assumed. By
    hand: strange .9 and .4 beside .8 and .1 have V10 = 1, 1/2 and V01 = 1/2, 1, so sqrt(1/8 / 2 + 1/8 / 2).

    >>> round(auroc_standard_error([0.9, 0.4, 0.8, 0.1], [True, True, False, False]), 4)
    0.3536

    Args:
        scores: (N,) anomaly scores, higher for stranger pictures, finite.
        is_ood: (N,) whether the picture is out of distribution; two of each kind must be there.

    Raises:
        RequestError: as `auroc`, or fewer than two of a kind.
    """
    from scipy.stats import rankdata  # slow to import, as above

    sample = _checked(scores, is_ood)
    strange, ordinary = sample.scores[sample.is_ood], sample.scores[~sample.is_ood]
    if (fewest := min(len(strange), len(ordinary))) < 2:
        raise RequestError(f"a standard error needs at least 2 pictures of each kind, got {fewest}: add some")
    ranks = rankdata(sample.scores)
    below = (ranks[sample.is_ood] - rankdata(strange)) / len(ordinary)
    above = 1 - (ranks[~sample.is_ood] - rankdata(ordinary)) / len(strange)
    return float(np.sqrt(below.var(ddof=1) / len(strange) + above.var(ddof=1) / len(ordinary)))


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """Checked inputs: (N,) float64 scores and (N,) bool."""

    scores: NDArray[np.float64]
    is_ood: NDArray[np.bool_]


def _checked(scores: ArrayLike, is_ood: ArrayLike) -> _Sample:
    sample = _Sample(scores=numbers("scores", scores), is_ood=flags("is_ood", is_ood))
    check_same_length(scores=sample.scores, is_ood=sample.is_ood)
    num_ood = int(sample.is_ood.sum())
    if num_ood in (0, len(sample.is_ood)):
        raise RequestError(
            f"is_ood must contain both true and false, got {num_ood} true of {len(sample.is_ood)}: "
            "give pictures in and out of distribution"
        )
    return sample
