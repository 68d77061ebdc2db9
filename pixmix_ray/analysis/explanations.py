"""What each metric is, in one place: definition, formula, normaliser, severities, and where published code differs.

What exactly a number means is asked of every benchmark of this field again and again; the answers here are of the code
in `pixmix_ray.metrics` and `pixmix_ray.benchmarks`, whose documentation names the sources.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from pixmix_ray.errors import RequestError, UnknownNameError
from pixmix_ray.metrics import UNITS, direction


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """One metric.

    Attributes:
        definition: what it says, in a sentence.
        formula: how it is computed.
        normaliser: what it is divided by.
        published: what published code does otherwise; "" where nothing is known to differ.
        source: where it is from.
    """

    definition: str
    formula: str
    normaliser: str = "none: a fraction"
    published: str = ""
    source: str


_PIXMIX, _C = "PixMix (CVPR 2022), section 3.1", "Hendrycks and Dietterich (ICLR 2019), section 4"
_OE = "Hendrycks, Mazeika and Dietterich, Outlier Exposure (ICLR 2019), section 4"
_ALEXNET = "CIFAR: none, a fraction. ImageNet (pictures of 128 pixels or more): AlexNet's error on the same severities"
_OF_ALEXNET = (
    "CIFAR: none. ImageNet: AlexNet's value, which no publication states: measured, if the benchmark's setting "
    "alexnet names its cell; else there is only the variant _unnormalised"
)
_BINS = "samples sorted by confidence, in bins of 100 of which the last takes the remainder"
_LAST_BIN = (
    "the official code never looks at its last, most confident bin; that number is stored as {}_without_last_bin"
)

EXPLANATIONS: Mapping[str, Explanation] = {
    "error": Explanation(
        definition="the share of pictures whose predicted class is not the true one",
        formula="mean of [predicted != label]",
        source=_PIXMIX,
    ),
    "ce": Explanation(
        definition="corruption error: the error on one corruption over its severities",
        formula="CE_c = sum_s E(s, c) / sum_s E_AlexNet(s, c); without a normaliser the mean of E(s, c) over s",
        normaliser=_ALEXNET,
        source=_C,
    ),
    "mce": Explanation(
        definition="mean corruption error: the mean of CE over the corruptions, each weighing the same",
        formula="mCE = mean over c of CE_c",
        normaliser=_ALEXNET,
        published="AugMix and PixMix report the plain mean on CIFAR. Whoever leaves out frost, or measures fewer "
        "severities, has another number: the row says so",
        source=f"{_C}; {_PIXMIX}",
    ),
    "rms_calibration_error": Explanation(
        definition="how far confidence is from accuracy, as a root mean square over bins of equal count",
        formula=f"sqrt(sum_b n_b/N (mean confidence in b - accuracy in b)^2), {_BINS}",
        published=_LAST_BIN.format("rms_calibration_error"),
        source=f"{_OE}; {_PIXMIX}",
    ),
    "rms_calibration_error_by_severity": Explanation(
        definition="the RMS calibration error of each corruption at each severity by itself, averaged",
        formula=f"mean over c and s of sqrt(sum_b n_b/N (mean confidence in b - accuracy in b)^2), {_BINS}",
        published="the official code for ImageNet-C averages the 75; `rms_calibration_error` takes the severities of a "
        "corruption together, as CIFAR-C is laid out, and can differ by more than two methods do. "
        + _LAST_BIN.format("rms_calibration_error_by_severity"),
        source=f"{_OE}; {_PIXMIX}",
    ),
    "mean_absolute_calibration_error": Explanation(
        definition="how far confidence is from accuracy, as a mean over bins of equal count",
        formula=f"sum_b n_b/N |mean confidence in b - accuracy in b|, {_BINS}",
        published=_LAST_BIN.format("mean_absolute_calibration_error"),
        source=_OE,
    ),
    "soft_f1": Explanation(
        definition="F1 of a network that flags its own mistakes by its doubt, 1 - confidence",
        formula="2 sum(doubt wrong) / sum(doubt + wrong)",
        published="the official code divides 0 by 0 where a network is never wrong nor in doubt; here it is 1",
        source=_OE,
    ),
    "aurra": Explanation(
        definition="area under the response-rate accuracy curve: accuracy among the k most confident, averaged over k",
        formula="mean over k of accuracy among the k most confident",
        published="the official code takes pictures of equal confidence in the order of its sort; here each counts as "
        "their mean",
        source="Hendrycks et al., Natural Adversarial Examples (CVPR 2021), section 3",
    ),
    "negative_log_likelihood": Explanation(
        definition="minus the logarithm of the probability of the true class",
        formula="mean of -ln p(label)",
        normaliser="none: nats",
        source="Gneiting and Raftery (JASA 2007)",
    ),
    "brier_score": Explanation(
        definition="squared distance of the probabilities from the truth, from 0 to 2",
        formula="mean of sum_k (p_k - [k = label])^2",
        published="others divide by the number of classes",
        source="Brier (1950)",
    ),
    "auroc": Explanation(
        definition="the probability that a strange picture scores above an ordinary one",
        formula="area under the ROC curve, ties counting half; out of distribution is the positive class",
        published="PixMix's code draws the outliers ten times and averages (`repeats: 10`); here once by default",
        source=f"Hendrycks and Gimpel (ICLR 2017); {_PIXMIX}",
    ),
    "aupr": Explanation(
        definition="average precision of finding the strange pictures, one for five ordinary ones; chance is 1/6",
        formula="sum over thresholds of precision times gain in recall",
        published="others take the ordinary pictures as positives (AUPR-In), or interpolate the curve",
        source=f"Hendrycks and Gimpel (ICLR 2017); {_OE}",
    ),
    "fpr95": Explanation(
        definition="the share of ordinary pictures that are flagged where 95 % of the strange ones are",
        formula="false-positive rate at the threshold whose recall is closest to .95",
        published="others take the first threshold that reaches .95, or the ordinary pictures as positives",
        source=_OE,
    ),
    "flip_rate": Explanation(
        definition="how often the prediction changes between two compared frames of a sequence of one perturbation",
        formula="share of compared pairs with unequal predictions; noise is compared with the first frame, others with "
        "the frame before",
        normaliser=_OF_ALEXNET,
        source=f"{_C}.1",
    ),
    "mfr": Explanation(
        definition="mean flip rate: the mean of flip_rate over the perturbations",
        formula="mFR = mean over p of FP_p",
        normaliser=_OF_ALEXNET,
        published="CIFAR: PixMix and AugMix report the plain mean",
        source=f"{_C}.1; {_PIXMIX}",
    ),
    "top5_distance": Explanation(
        definition="how far the five best classes move between two compared frames of a sequence, in ranks",
        formula="sum over ranks i of 1 to 5 of |min(i - 1, 5) - min(s(i) - 1, 5)|, s(i) being the rank in the other",
        normaliser=_OF_ALEXNET,
        source=f"{_C}.1",
    ),
    "mt5d": Explanation(
        definition="mean top-5 distance over the perturbations",
        formula="mT5D = mean over p of T5D_p",
        normaliser=_OF_ALEXNET,
        source=f"{_C}.1; PixMix, appendix B",
    ),
    "zipf_distance": Explanation(
        definition="how far the ranking of all classes moves between two compared frames, the first ranks most",
        formula="sum over ranks i of |1/i - 1/s(i)| / i",
        normaliser="none",
        source="hendrycks/robustness, code of ImageNet-P",
    ),
    "mean_zipf_distance": Explanation(
        definition="the mean of zipf_distance over the perturbations",
        formula="mean over p",
        normaliser="none",
        source="hendrycks/robustness, code of ImageNet-P",
    ),
}

OF_BENCHMARK: Mapping[str, str] = {
    "clean": "one pass over the unchanged test pictures",
    "corruptions": "the 15 corruptions of C at severities 1 to 5: first over the severities of a corruption, then over "
    "the corruptions, each weighing the same. Calibration: the five severities of a corruption together, as the "
    "published CIFAR-C files are laid out, then the mean over corruptions; the condition pooled is over all at once",
    "corruptions_bar": "the 10 corruptions of C-bar, averaged as those of C and never divided by AlexNet's error",
    "consistency": "the 10 perturbations of P: over the pairs of a sequence, the sequences, then the perturbations",
    "adversaries": "each picture after the attack; the official ball is around the picture with noise, twice as large "
    "as stated (`centre: noised`), ours around the clean picture",
    "renditions": "the 200 classes of ImageNet-R, among which alone the network chooses",
    "natural_shifts": "other photographs of ImageNet's classes (-A, -V2, -Sketch, ObjectNet): each set by itself, then "
    "the plain mean over the sets",
    "anomalies": "each set of outliers against the test pictures, then the mean over the sets: over other sets it is "
    "another number, and the row names them",
}


def explain(name: str, measurements: pd.DataFrame | None = None) -> list[tuple[str, str]]:
    """What a metric is: pairs of a heading and a text.

    Args:
        name: a metric, or benchmark.metric.
        measurements: results; what they say of it (n, settings, data) is told too.

    Raises:
        UnknownNameError: there is no such metric or benchmark.
    """
    benchmark, _, metric = name.rpartition(".")
    if (
        benchmark
        and benchmark not in OF_BENCHMARK
        and (measurements is None or benchmark not in set(measurements["benchmark"]))
    ):
        raise UnknownNameError("benchmark", benchmark, OF_BENCHMARK)
    better = direction(metric)
    base, variant = _base(metric)
    if base not in EXPLANATIONS:
        raise RequestError(f"{metric} is a metric of your own benchmark: see its code for the definition")
    found = EXPLANATIONS[base]
    lines = [
        ("metric", f"{name}: {better} is better"),
        ("definition", found.definition + variant),
        ("formula", found.formula),
        ("divided by", found.normaliser if base == metric or "score" in variant else "none"),
        ("unit", UNITS.get(metric, "fraction; shown in percent")),
        ("averaged", OF_BENCHMARK.get(benchmark, "")),
        ("published code", found.published),
        ("source", found.source),
    ]
    lines += _here(benchmark, metric, measurements)
    return [(heading, text) for heading, text in lines if text]


def _base(metric: str) -> tuple[str, str]:
    """The metric that this is a variant of, and how it varies."""
    variants = {
        "_without_last_bin": "; as the official code has it, without the most confident bin",
        "_unnormalised": "; not divided by AlexNet's value",
        "_std": "; its standard deviation over the draws of outliers",
        "_max_logit": "; the score is minus the largest logit",
        "_energy": "; the score is the free energy",
    }
    found, words = metric, ""
    for end, text in variants.items():
        if found.endswith(end):
            found, words = found.removesuffix(end), text + words
    for end, text in variants.items():  # auroc_energy_std has two
        if found.endswith(end):
            found, words = found.removesuffix(end), text + words
    return found, words


def _here(benchmark: str, metric: str, measurements: pd.DataFrame | None) -> list[tuple[str, str]]:
    """What results say of it."""
    if measurements is None:
        return []
    rows = measurements[(measurements["metric"] == metric) & measurements["severity"].isna()]
    rows = rows[(rows["condition"] == "") & ((rows["benchmark"] == benchmark) | (benchmark == ""))]
    ways = rows.groupby(["benchmark", "benchmark_settings", "data_version"], observed=True)
    return [
        (
            "here",
            f"{keys[0]}: {len(part)} values of n = {', '.join(map(str, sorted(set(part['n']))))} pictures, "
            f"settings {keys[1]}, data {keys[2]}",
        )
        for keys, part in ways
    ]
