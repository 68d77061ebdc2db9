"""How the paper lays out its tables: which figure stands in which row and column, and what these are called.

Source: PixMix (Hendrycks et al., CVPR 2022), Tables 1 to 15. Each table is a pivot of `published_figures`: rows and
columns in the order of their first figure.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

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
