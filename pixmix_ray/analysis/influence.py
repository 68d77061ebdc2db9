"""How far each picture moves a metric: what its value becomes when the picture's weight changes a little.

With weights w of mean 1 over pictures i, a metric is close to M + sum_i (w_i - 1) e_i, where e_i = dM / dw_i at w = 1
is the effect of picture i: the infinitesimal jackknife (Efron, "The Jackknife, the Bootstrap and Other Resampling
Plans", SIAM 1982, chapter 6). The effects sum to 0 over all pictures, and the square root of the sum of their squares
is the standard error of M. A bootstrap of pictures then costs one matrix product for all metrics of all
networks together, and stays paired: every network sees the same pictures drawn.

For means (error, mCE, flip rates) this is exact up to the normalisation of the weights. For AUROC the effects are the
placements of DeLong, DeLong and Clarke-Pearson (Biometrics 44:837-845, 1988). For calibration errors the bins stay
those of the sample: to bin anew after each draw would add the bias of every bin a second time. Of measures of
detection both kinds of pictures stay as many as they are, so the effects of either kind sum to 0. The false alarms at a
recall move with the threshold that the recall asks for, by the slope of the ROC curve there (Hsieh and Turnbull, Annals
of Statistics 24:25-40, 1996), which is taken over a window of recall.

A picture that appears several times (under several severities, say) has one effect, the sum over its appearances.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixmix_ray.metrics import BIN_SIZE, fpr_at_recall

Floats = NDArray[np.float64]
WINDOW = 0.025
"""Of recall, to either side, over which the slope of an ROC curve is taken."""


@dataclass(frozen=True, kw_only=True)
class RowEffects:
    """A metric and how far each row of the predictions moves it.

    Attributes:
        value: the metric.
        rows: (N,) effects of the rows, of sum 0.
    """

    value: float
    rows: Floats

    def scaled(self, factor: float) -> "RowEffects":
        """Those of the metric times `factor`."""
        return RowEffects(value=self.value * factor, rows=self.rows * factor)


@dataclass(frozen=True, kw_only=True)
class DetectionEffects:
    """A measure of detection and how far each picture moves it.

    Attributes:
        value: the measure.
        inside: (N,) effects of the ordinary pictures, of sum 0.
        outside: (M,) effects of the strange ones, likewise.
    """

    value: float
    inside: Floats
    outside: Floats


def mean_effects(values: ArrayLike) -> RowEffects:
    """The mean of (N,) numbers: each moves it by its distance from the mean over N.

    >>> mean_effects([0.0, 1.0]).rows.tolist()
    [-0.25, 0.25]
    """
    sample = np.asarray(values, dtype=np.float64)
    mean = sample.mean()
    return RowEffects(value=float(mean), rows=(sample - mean) / len(sample))


def calibration_effects(
    confidence: ArrayLike,
    correct: ArrayLike,
    *,
    is_squared: bool = True,
    has_last_bin: bool = True,
    bin_size: int = BIN_SIZE,
) -> RowEffects:
    """The RMS calibration error, or the mean absolute one, of `pixmix_ray.metrics.calibration`.

    By hand: one bin of two with gaps .9 and .5, so the error is their mean, .7, and they move it by .2 / 2 either way.

    >>> found = calibration_effects([0.9, 0.5], [False, False], bin_size=2)
    >>> round(found.value, 4), found.rows.round(4).tolist()
    (0.7, [0.1, -0.1])

    Args:
        confidence: (N,) in [0, 1].
        correct: (N,) bool.
        is_squared: whether it is the RMS error.
        has_last_bin: whether the most confident bin counts, as in the definition.
        bin_size: samples in a bin.
    """
    probability = np.asarray(confidence, dtype=np.float64)
    order = np.argsort(probability, kind="stable")
    gaps = (probability - np.asarray(correct, dtype=np.float64))[order]
    count = len(gaps)
    starts = np.arange(max(count // bin_size, 1)) * bin_size
    sizes = np.diff(starts, append=count)
    owner = np.repeat(np.arange(len(starts)), sizes)
    sums = np.add.reduceat(gaps, starts)
    counts = np.ones(len(starts)) if has_last_bin else np.append(np.ones(len(starts) - 1), 0.0)
    means = sums / sizes
    if is_squared:
        total = float((counts * sums * means).sum() / count)
        slopes = counts[owner] * (2 * means[owner] * gaps - means[owner] ** 2)
        value = float(np.sqrt(total))
        # d sqrt(T) = dT / (2 sqrt(T)); an error of exactly 0 has no slope
        effects = (slopes - total) / count / (2 * value) if value > 0 else np.zeros(count)
    else:
        value = float((counts * np.abs(sums)).sum() / count)
        effects = (counts[owner] * np.sign(sums[owner]) * gaps - value) / count
    back = np.empty(count)
    back[order] = effects
    return RowEffects(value=value, rows=back)


def soft_f1_effects(confidence: ArrayLike, correct: ArrayLike) -> RowEffects:
    """Soft F1 of `pixmix_ray.metrics.calibration`: a ratio of two sums.

    >>> round(soft_f1_effects([0.6, 0.9, 0.5], [False, True, False]).value, 4)
    0.6
    """
    doubt = 1 - np.asarray(confidence, dtype=np.float64)
    wrong = ~np.asarray(correct, dtype=bool)
    above, below = 2 * doubt * wrong, doubt + wrong
    total = below.sum()
    if total <= 0:
        return RowEffects(value=1.0, rows=np.zeros(len(doubt)))
    value = float(above.sum() / total)
    return RowEffects(value=value, rows=(above - value * below) / total)


def aurra_effects(confidence: ArrayLike, correct: ArrayLike) -> RowEffects:
    """The area under the response-rate accuracy curve of `pixmix_ray.metrics.calibration`.

    A picture moves the accuracy of every response rate that it is among, and the share of its own response rate. Of
    equal confidences each stands at every place of theirs in turn, as in the metric.

    >>> round(aurra_effects([0.6, 0.9, 0.5], [False, True, True]).value, 4)
    0.7222
    """
    probability, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    order = np.argsort(-probability, kind="stable")
    starts = np.flatnonzero(np.diff(probability[order], prepend=np.inf))
    sizes = np.diff(starts, append=len(order))
    owner = np.repeat(np.arange(len(starts)), sizes)
    shares = (np.add.reduceat(right[order], starts) / sizes)[owner]
    rates = np.arange(1, len(order) + 1)
    accuracies = np.cumsum(shares) / rates
    # in its group a picture is among the first `place` of `size` with that share of chance, and the others then share
    # the right ones that are left: so the accuracy there depends on whether it is right itself
    place, size = rates - starts[owner], sizes[owner]
    moved = np.empty(len(order))
    for is_right in (0.0, 1.0):
        others = (shares * size - is_right) / np.maximum(size - 1, 1)
        before = accuracies * rates - shares * place
        there = (before + is_right + (place - 1) * others) / rates
        own = np.add.reduceat(there, starts) / sizes
        within = np.add.reduceat(place / size * (is_right - there) / rates, starts)
        later = _after_group(1 / rates, starts) * is_right - _after_group(accuracies / rates, starts)
        of = right[order] == is_right
        moved[of] = (own + within + later)[owner][of]
    value = float(accuracies.mean())
    effects = np.empty(len(order))
    effects[order] = (moved - value) / len(order)
    return RowEffects(value=value, rows=effects)


def _after_group(values: Floats, starts: NDArray[np.intp]) -> Floats:
    """For each group of neighbours the sum of the values after it."""
    sums: Floats = np.add.reduceat(values, starts)
    after: Floats = sums[::-1].cumsum()[::-1] - sums
    return after


def auroc_effects(inside: ArrayLike, outside: ArrayLike) -> DetectionEffects:
    """The AUROC of (N,) scores of ordinary and (M,) of strange pictures; ties count half.

    By hand: the strange .9 is above both ordinary ones and .4 above one, so 3/4; they move it by 1/4 / 2 either way.

    >>> found = auroc_effects([0.8, 0.1], [0.9, 0.4])
    >>> found.value, found.outside.tolist(), found.inside.tolist()
    (0.75, [0.125, -0.125], [-0.125, 0.125])
    """
    ordinary, strange = np.asarray(inside), np.asarray(outside)
    of_strange = _share_below(np.sort(ordinary), strange)
    of_ordinary = 1 - _share_below(np.sort(strange), ordinary)
    value = float(of_strange.mean())
    return DetectionEffects(
        value=value,
        inside=(of_ordinary - value) / len(ordinary),
        outside=(of_strange - value) / len(strange),
    )


def aupr_effects(inside: ArrayLike, outside: ArrayLike) -> DetectionEffects:
    """The average precision of (N,) scores of ordinary and (M,) of strange pictures, which are the positive class.

    Args:
        inside: higher for stranger pictures.
        outside: likewise.
    """
    ordinary, strange = np.asarray(inside), np.asarray(outside)
    scores = np.concatenate([ordinary, strange])
    is_strange = np.arange(len(scores)) >= len(ordinary)
    order = np.argsort(-scores, kind="stable")
    group = np.cumsum(np.diff(scores[order], prepend=np.inf) != 0) - 1  # equal scores are one threshold
    last = np.flatnonzero(np.diff(group, append=-1))
    hits = np.cumsum(is_strange[order])[last].astype(np.float64)
    flagged = last + 1.0
    false_alarms, own = flagged - hits, np.diff(hits, prepend=0.0)
    value = float((own * hits / flagged).sum() / len(strange))
    # a picture adds its own precision, and moves that of every threshold at or below its score
    by_hit = np.cumsum((own * false_alarms / flagged**2)[::-1])[::-1]
    by_false_alarm = -np.cumsum((own * hits / flagged**2)[::-1])[::-1]
    at = np.empty(len(scores), dtype=np.int64)
    at[order] = group
    effects = np.where(is_strange, (hits / flagged)[at] + by_hit[at] - value, by_false_alarm[at]) / len(strange)
    of_ordinary, of_strange = effects[: len(ordinary)], effects[len(ordinary) :]
    return DetectionEffects(
        value=value, inside=of_ordinary - of_ordinary.mean(), outside=of_strange - of_strange.mean()
    )


def fpr_effects(inside: ArrayLike, outside: ArrayLike, recall: float = 0.95) -> DetectionEffects:
    """The share of ordinary pictures flagged where `recall` of the strange ones are: `metrics.fpr_at_recall`.

    Args:
        inside: (N,), higher for stranger pictures.
        outside: (M,), likewise.
        recall: in (0, 1).
    """
    ordinary, strange = np.asarray(inside), np.asarray(outside)
    value = fpr_at_recall(
        np.concatenate([ordinary, strange]), np.arange(len(ordinary) + len(strange)) >= len(ordinary), recall
    )
    ranked = np.sort(strange)[::-1]

    def threshold(share: float) -> float:
        return float(ranked[min(max(int(np.ceil(share * len(ranked))), 1), len(ranked)) - 1])

    # the slope of the false alarms over recall, over a window that ends at 1 at the latest
    reach = min(WINDOW, 1 - recall)
    far, near = (float((ordinary >= threshold(recall + side * reach)).mean()) for side in (1, -1))
    slope = (far - near) / (2 * reach)
    at = threshold(recall)
    flagged, hit = (ordinary >= at).astype(np.float64), (strange >= at).astype(np.float64)
    return DetectionEffects(
        value=value,
        inside=(flagged - flagged.mean()) / len(ordinary),
        outside=-slope * (hit - hit.mean()) / len(strange),
    )


def _share_below(ranked: NDArray[np.generic], scores: NDArray[np.generic]) -> Floats:
    """For each score the share of the sorted ones below it, equal ones counting half."""
    below = np.searchsorted(ranked, scores, side="left")
    up_to = np.searchsorted(ranked, scores, side="right")
    shares: Floats = (below + up_to) / (2.0 * len(ranked))
    return shares
