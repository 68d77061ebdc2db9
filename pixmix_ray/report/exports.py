"""Files of results for other programs, each written whole."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from pixmix_ray.analysis.leaderboards import Forms
from pixmix_ray.errors import RequestError
from pixmix_ray.report.files import written_whole
from pixmix_ray.report.grid import csv_value


def _write_csv(frame: pd.DataFrame, file: Path) -> None:
    texts = {name: frame[name].astype(object).map(csv_value) for name in frame.columns if not _is_number(frame[name])}
    frame.assign(**texts).to_csv(file, index=False)


def _write_parquet(frame: pd.DataFrame, file: Path) -> None:
    frame.to_parquet(file, index=False)


def _is_number(column: "pd.Series[float]") -> bool:
    return bool(pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column))


TABLES: Mapping[str, Callable[[pd.DataFrame, Path], None]] = {"csv": _write_csv, "parquet": _write_parquet}
"""The forms that are the table of measurements itself."""


def write_table(frame: pd.DataFrame, file: Path, form: str) -> None:
    """Write measurements as one of `TABLES`; in CSV a text that a spreadsheet takes for a formula has an apostrophe.

    Raises:
        RequestError: the file cannot be written.
    """
    with written_whole(file) as part:
        TABLES[form](frame, part)


def write_forms(forms: Forms, folder: Path) -> None:
    """Write the files of a form below a folder.

    Raises:
        RequestError: one cannot be written.
    """
    for path, text in forms.files.items():
        file = folder / path
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(f"cannot write {file}: {error.strerror or error}") from None
        with written_whole(file) as part:
            part.write_text(text, encoding="utf-8")
