"""The published figures of Tables 1 to 15, ours beside them, and how the paper lays them out.

Source: PixMix (Hendrycks et al., CVPR 2022), in `published.csv`, a row a figure. Its names are the paper's; this is the
one place that says which of ours they are (`as_published`), and where they differ:

- Table 5's Mix Input, Mix Aug and Iterative are methods of their own there, here PixMix with partner augmented,
  pictures and iterative. The first and the last mix with no set here; there the set of the whole table stands with
  them.
- Everything else bears the same name: data sets, networks, methods, mixing sets by their labels, and the metrics.
  Mixing sets of one label need not be the same pictures: fractals may be the authors' or generated ones.
- Calibration errors there are by the authors' code, which leaves out the most confident bin: beside
  `rms_calibration_error`, compare `rms_calibration_error_without_last_bin`. On ImageNet-C and ImageNet-C-bar that code
  averages over every corruption at every severity, ours beside it being `rms_calibration_error_by_severity`.
- Adversaries there are by the authors' code, whose ball is twice as large: it is `centre: noised` here.

Figures that the paper gives twice are told apart by their tables where the values differ.

Each table is a pivot of `published_figures`: rows and
columns in the order of their first figure.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from io import StringIO
from typing import Literal, get_args

import pandas as pd

from pixmix_ray.errors import UnknownNameError

PARTNERS = {"augmented": "pixmix_mix_input", "pictures": "pixmix_mix_aug", "iterative": "pixmix_iterative"}
"""PixMix's setting `partner` -> the method that the published figures call so."""

WITHOUT_SET = ("pixmix_mix_input", "pixmix_iterative")  # published beside the table's mixing set, which ours don't use
TABLE_SET = "fractals+fvis"
WHO = ("dataset", "model", "method", "mixing_set", "k", "beta")
WHAT = ("benchmark", "metric", "condition")
SCALES = {"percent": 100.0, "percent_of_alexnet": 100.0, "distance": 1.0}
"""Unit of a published figure -> what a value of ours is multiplied by."""

Setting = Literal["dataset", "model", "mixing_set"]


def published_figures(tables: Sequence[int] | None = None) -> pd.DataFrame:
    """The published figures, a row a figure, in the paper's order; 1,044 rows over all tables.

    Columns: table; those of `WHO` and of `WHAT`, null where the row has none, condition "" over all conditions; value,
    as printed; unit, a key of `SCALES`.

    >>> figures = published_figures([4])
    >>> len(figures), figures["mixing_set"].nunique(), float(figures["value"].iloc[0])
    (48, 8, 21.3)

    Args:
        tables: numbers of tables; none means all.

    Raises:
        UnknownNameError: there is no such table.
    """
    text = files("pixmix_ray.analysis").joinpath("published.csv").read_text(encoding="utf-8")
    types = {"table": "int64", "value": "float64", "k": "float64", "beta": "float64"}
    names = {name: "object" for name in (*WHO, *WHAT, "unit") if name not in types}
    frame: pd.DataFrame = pd.read_csv(StringIO(text), dtype={**names, **types}).astype({"condition": "object"})
    frame["condition"] = frame["condition"].fillna("")
    known = sorted(set(frame["table"]))
    for number in () if tables is None else tables:
        if number not in known:
            raise UnknownNameError("published table", str(number), [str(table) for table in known])
    return frame if tables is None else frame[frame["table"].isin(tables)].reset_index(drop=True)


def parse_across(text: str | None) -> list[Setting]:
    """The names in `text`, such as "dataset,model"; an empty list for none.

    Raises:
        UnknownNameError: there is no such name.
    """
    names = [] if text is None else [part.strip() for part in text.split(",")]
    for name in names:
        if name not in get_args(Setting):
            raise UnknownNameError("column to compare across", name, get_args(Setting))
    return [name for name in get_args(Setting) if name in names]


def as_published(frame: pd.DataFrame) -> pd.DataFrame:
    """Measurements of ours with method and mixing set called as in the published figures; see the module.

    >>> settings = '{"method": {"partner": "augmented"}}'
    >>> rows = pd.DataFrame({"method": ["pixmix"], "mixing_set": [None], "settings": [settings]})
    >>> as_published(rows)[["method", "mixing_set"]].values.tolist()
    [['pixmix_mix_input', 'fractals+fvis']]
    """
    pairs = list(zip(frame["method"], frame["settings"], strict=True))
    names = {pair: _published_method(*pair) for pair in set(pairs)}
    methods = [names[pair] for pair in pairs]
    named = frame.assign(method=methods)
    bare = named["method"].isin(WITHOUT_SET) & named["mixing_set"].isna()
    return named.assign(mixing_set=named["mixing_set"].astype(object).mask(bare, TABLE_SET))


def _published_method(method: str, settings: str) -> str:
    if method != "pixmix":
        return method
    try:
        partner = json.loads(settings)["method"].get("partner", "both")
    except (ValueError, LookupError, TypeError, AttributeError):  # of somebody else's making
        return method
    return PARTNERS.get(partner, method)


Figure = Mapping[str, object]
Labels = tuple[str, ...]

METHODS = {
    "baseline": "Baseline",
    "cutout": "Cutout",
    "mixup": "Mixup",
    "cutmix": "CutMix",
    "auto_augment": "AutoAugment",
    "augmix": "AugMix",
    "outlier_exposure": "OE",
    "pixmix": "PixMix",
    "sin": "SIN",
    "ant": "ANT",
    "speckle": "Speckle",
    "noise2net": "Noise2Net",
    "edsr": "EDSR",
    "adversarial_linf": "ℓ∞ Adversarial",
    "adversarial_l2": "ℓ2 Adversarial",
    "pixmix_mix_input": "Mix Input",
    "pixmix_mix_aug": "Mix Aug",
    "pixmix_iterative": "Iterative",
    "pixmix_cutmix": "PixMix + CutMix",
}
SETS = {
    "dead_leaves_squares": "Dead Leaves (Squares)",
    "spectrum_color_wmm": "Spectrum + Color + WMM",
    "stylegan_oriented": "StyleGAN (Oriented)",
    "fractaldb": "FractalDB",
    "random_images_300k": "300K Random Images",
    "fractals": "Fractals",
    "fvis": "Feature Visualization (FVis)",
    "fractals+fvis": "Fractals + FVis",
}
DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet", "places365": "Places365"}
BAR = "C\u0304"
_PLACES = {"clean": "Clean", "corruptions": "C", "corruptions_bar": BAR, "renditions": "R"}
_SHORT = {"error": "Error", "mce": "mCE", "mfr": "mFR", "mt5d": "mT5D", "auroc": "AUROC", "aupr": "AUPR"}
_GROUPS = {
    "Noise": {"gaussian_noise": "Gauss.", "shot_noise": "Shot", "impulse_noise": "Impulse"},
    "Blur": {"defocus_blur": "Defocus", "glass_blur": "Glass", "motion_blur": "Motion", "zoom_blur": "Zoom"},
    "Weather": {"snow": "Snow", "frost": "Frost", "fog": "Fog", "brightness": "Bright"},
    "Digital": {
        "contrast": "Contrast",
        "elastic_transform": "Elastic",
        "pixelate": "Pixel",
        "jpeg_compression": "JPEG",
        "translate": "Translate",
        "rotate": "Rotate",
        "tilt": "Tilt",
        "scale": "Scale",
    },
}
_BAR_NAMES = {
    "blue_noise_sample": "BSmpl",
    "plasma_noise": "Plsm",
    "checkerboard_cutout": "Ckbd",
    "cocentric_sine_waves": "CSin",
    "single_frequency_greyscale": "SFreq",
    "brownish_noise": "Brown",
    "perlin_noise": "Perlin",
    "sparkles": "Sparkles",
    "inverse_sparkles": "ISparkle",
    "caustic_refraction": "Refraction",
}
_OUTLIERS = {
    "gaussian": "Gaussian Noise",
    "rademacher": "Rademacher Noise",
    "blobs": "Blobs",
    "textures": "Textures",
    "svhn": "SVHN",
    "imagenet": "ImageNet",
    "places69": "Places69",
    "": "Average",
}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One table of the paper.

    Attributes:
        title: what it shows, in our words.
        stub: headers of the columns that name rows.
        row: from a figure the names of its row.
        column: from a figure the lines of its column's header.
        shows_change: whether each figure stands with its difference from the first of its row.
    """

    title: str
    stub: Labels
    row: Callable[[Figure], Labels]
    column: Callable[[Figure], Labels]
    shows_change: bool = False


def _method(figure: Figure) -> Labels:
    return (METHODS.get(str(figure["method"]), str(figure["method"])),)


def _measure(figure: Figure) -> Labels:
    """Group, pictures and metric, such as Corruptions, C, mCE."""
    benchmark, metric = str(figure["benchmark"]), str(figure["metric"])
    is_imagenet = figure["dataset"] == "imagenet"
    if "calibration" in metric:
        return ("Calibration", _PLACES[benchmark], "RMS ↓")
    arrow = "↑" if benchmark == "anomalies" else "↓"
    short = f"{_SHORT[metric]} {arrow}"
    group, place = {
        "clean": ("Accuracy", "Clean"),
        "corruptions": ("Robustness" if is_imagenet else "Corruptions", "C"),
        "corruptions_bar": ("Robustness" if is_imagenet else "Corruptions", BAR),
        "renditions": ("Robustness", "R"),
        "consistency": ("Consistency", "ImageNet-P" if is_imagenet else "CIFAR-P"),
        "adversaries": ("Adversaries", "PGD"),
        "anomalies": ("Anomaly", "Detection"),
    }[benchmark]
    return (group, place, short)


def _goal(figure: Figure) -> str:
    """A row of Tables 1 and 2: a goal and its metric."""
    group, _, metric = _measure(figure)
    return f"{'Anomaly Detection' if group == 'Anomaly' else group} {metric}"


def _condition(figure: Figure) -> Labels:
    """A column of Tables 11, 14 and 15: a corruption below its family."""
    name = str(figure["condition"])
    if not name:
        plain = {"clean": "Clean", "corruptions_bar": f"{BAR} Error"}
        return ("", plain.get(str(figure["benchmark"]), _SHORT.get(str(figure["metric"]), "")))
    if name in _BAR_NAMES:
        return ("", _BAR_NAMES[name])
    return next(((group, names[name]) for group, names in _GROUPS.items() if name in names), ("", name))


def _number(value: object) -> str:
    return f"{float(str(value)):g}"


LAYOUTS: Mapping[int, Layout] = {
    1: Layout(
        title="five safety measures on CIFAR-100",
        stub=("",),
        row=lambda figure: (_goal(figure),),
        column=_method,
        shows_change=True,
    ),
    2: Layout(
        title="safety measures on CIFAR-10 and CIFAR-100",
        stub=("", ""),
        row=lambda figure: (DATASETS[str(figure["dataset"])], _goal(figure)),
        column=_method,
    ),
    3: Layout(title="ImageNet", stub=("",), row=_method, column=_measure),
    4: Layout(
        title="mixing sets on CIFAR-100",
        stub=("PixMix mixing set",),
        row=lambda figure: (SETS.get(str(figure["mixing_set"]), str(figure["mixing_set"])),),
        column=_measure,
    ),
    5: Layout(
        title="variations of PixMix on CIFAR-100",
        stub=("",),
        row=lambda figure: ("PixMix Original",) if figure["method"] == "pixmix" else _method(figure),
        column=_measure,
    ),
    6: Layout(title="PixMix with CutMix on CIFAR-100", stub=("",), row=_method, column=_measure),
    7: Layout(title="full results on CIFAR-100", stub=("",), row=_method, column=_measure),
    8: Layout(title="full results on CIFAR-10", stub=("",), row=_method, column=_measure),
    9: Layout(title="full results on ImageNet", stub=("",), row=_method, column=_measure),
    10: Layout(title="augmentation by noise on ImageNet", stub=("",), row=_method, column=_measure),
    11: Layout(title="flip rates on ImageNet-P", stub=("",), row=_method, column=_condition),
    12: Layout(
        title="anomaly detection of a ResNet-18 trained on Places365",
        stub=("",),
        row=lambda figure: (_OUTLIERS.get(str(figure["condition"]), str(figure["condition"])),),
        column=lambda figure: (f"{_SHORT[str(figure['metric'])]} ↑", *_method(figure)),
    ),
    13: Layout(
        title="k and β on CIFAR-100: clean error, and mCE below it",
        stub=("", ""),
        row=lambda figure: (f"β = {_number(figure['beta'])}", _SHORT[str(figure["metric"])]),
        column=lambda figure: (f"k = {_number(figure['k'])}",),
    ),
    14: Layout(title="corruption errors on ImageNet-C", stub=("",), row=_method, column=_condition),
    15: Layout(title=f"errors on ImageNet-{BAR}", stub=("",), row=_method, column=_condition),
}
"""The paper's tables by their numbers."""
