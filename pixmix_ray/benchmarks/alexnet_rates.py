"""AlexNet's flip rates and top-5 distances on ImageNet-P, read from a cell that we measured.

The published mFR and mT5D divide by them, and no publication states them. So they are measured once, with torchvision's
weights of AlexNet on this package's `consistency`, and read from the Parquet file of that cell. The numbers themselves
become a setting: an experiment says what it was divided by, wherever the file lies later.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationInfo

from pixmix_ray.errors import DataError, one_line
from pixmix_ray.settings import DataPath, Settings

FLIP_RATE, TOP5_DISTANCE = "flip_rate_unnormalised", "top5_distance_unnormalised"
COLUMNS = ("benchmark", "benchmark_settings", "metric", "condition", "value")
_PATH: TypeAdapter[Path] = TypeAdapter(DataPath)


class Rates(Settings):
    """What AlexNet does under one perturbation.

    Attributes:
        flip_rate: a fraction.
        top5_distance: in ranks.
    """

    flip_rate: float = Field(gt=0, le=1)
    top5_distance: float = Field(gt=0, le=18)


def read_rates(file: Path, difficulty: int) -> dict[str, dict[str, float]]:
    """For each perturbation, the fields of `Rates`, from the file of a cell of `consistency`.

    Args:
        file: a cell's Parquet file, RESULTS/cells/TRIAL/consistency-....parquet.
        difficulty: the one that the cell must have been measured at.

    Raises:
        DataError: no such file, no cell of `consistency` on pictures of ImageNet's size, or of another difficulty.
    """
    try:
        rows = pq.read_table(file, columns=list(COLUMNS)).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"cannot read AlexNet's rates from {file} ({one_line(error)}): give the Parquet file "
            "of a cell of consistency, RESULTS/cells/TRIAL/consistency-....parquet"
        ) from error
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["metric"] in (FLIP_RATE, TOP5_DISTANCE) and row["condition"]:
            field = row["metric"].removesuffix("_unnormalised")
            found.setdefault(row["condition"], {})[field] = row["value"]
    if not found:
        raise DataError(
            f"{file} has no rows of {FLIP_RATE}: give a cell of consistency, measured on AlexNet and ImageNet"
        )
    measured = json.loads(rows[0]["benchmark_settings"]).get("difficulty")
    if measured != difficulty:
        raise DataError(
            f"{file} was measured at difficulty {measured}, and the benchmark has {difficulty}: measure AlexNet at "
            f"{difficulty}"
        )
    return found


def _from_file(value: Any, info: ValidationInfo) -> Any:
    """The rates in a file, if `value` is its path; the difficulty is that of the same settings."""
    if not isinstance(value, str | Path):
        return value
    return read_rates(_PATH.validate_python(value, context=info.context), info.data.get("difficulty", 1))


AlexNetRates = Annotated[dict[str, Rates], BeforeValidator(_from_file)]
"""Perturbation -> what AlexNet does under it; in an experiment file, the path of the cell that was measured."""
