"""The published figures of Tables 1 to 15, and ours beside them.

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
"""

import json
from collections.abc import Sequence
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
