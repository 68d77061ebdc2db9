"""What rows say of themselves, below a table: once each."""

import pandas as pd

from pixmix_ray.analysis.labels import MOST, remarks

FALLS = "error falls from 30.0% at severity 1 to 20.0% at 5"


def frame(*rows: tuple[str, str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=["method", "benchmark", "condition", "note"])


def test_a_note_is_there_once_with_its_place_and_the_entries_that_it_is_of() -> None:
    without_frost = "14 of the 15 corruptions: without frost"
    measured = frame(
        ("baseline", "corruptions", "", without_frost),
        ("pixmix", "corruptions", "", without_frost),
        ("pixmix", "corruptions", "fog", FALLS),
        ("pixmix", "renditions", "", "100 pictures, ImageNet-R has 30000"),
        ("pixmix", "clean", "", ""),
    )
    assert remarks(measured, ["clean.error", "corruptions.mce", "corruptions.error"]) == (
        f"corruptions: {without_frost}",
        f"corruptions, fog: {FALLS} (pixmix)",
    )
    assert remarks(measured, ["clean.error"]) == () == remarks(measured.drop(columns="note"), ["corruptions.mce"])


def test_many_notes_are_counted() -> None:
    measured = frame(*((f"method {number}", "corruptions", "fog", f"note {number}") for number in range(MOST + 3)))
    lines = remarks(measured, ["corruptions.mce"])
    assert len(lines) == MOST + 1 and lines[-1].startswith("corruptions: 3 more notes")
