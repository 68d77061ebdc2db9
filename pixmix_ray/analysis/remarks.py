"""What measurements say of themselves in the column `note`, once each, to stand below a table."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pixmix_ray.analysis.labels import with_labels

MOST = 6
"""Lines of one benchmark; a sweep over every method may have a hundred."""
NAMED = 3


def remarks(frame: pd.DataFrame, objectives: Sequence[str]) -> tuple[str, ...]:
    """A line for each note of the benchmarks of some objectives: where it stands, the note, and of which entries.

    >>> row = {"benchmark": "corruptions", "condition": "", "note": "14 of the 15 corruptions: without frost"}
    >>> remarks(pd.DataFrame([row | {"method": "pixmix"}]), ["corruptions.mce"])
    ('corruptions: 14 of the 15 corruptions: without frost',)

    Args:
        frame: measurements, with or without the column; unchanged.
        objectives: names "benchmark.metric".
    """
    if "note" not in frame.columns:
        return ()
    shown = list(dict.fromkeys(name.partition(".")[0] for name in objectives))
    rows = frame[frame["note"].fillna("").ne("") & frame["benchmark"].isin(shown)]
    rows = rows.iloc[np.argsort(rows["condition"].ne(""), kind="stable")]  # those of all conditions first
    if rows.empty:
        return ()
    named = with_labels(rows.astype({"note": str, "benchmark": str, "condition": str}), frame)
    everyone = with_labels(frame[frame["benchmark"].isin(shown)].astype({"benchmark": str}), frame)
    entries = everyone.groupby("benchmark")["label"].nunique().to_dict()
    lines: dict[str, list[str]] = {}
    for (benchmark, condition, note), part in named.groupby(["benchmark", "condition", "note"], sort=False):
        labels = list(dict.fromkeys(part["label"]))
        of = "" if len(labels) == entries[benchmark] else f" ({_listed(labels)})"
        where = f"{benchmark}, {condition}" if condition else str(benchmark)
        lines.setdefault(str(benchmark), []).append(f"{where}: {note}{of}")
    found = []
    for name in shown:
        own = lines.get(name, [])
        found += own[:MOST]
        if len(own) > MOST:
            found.append(f"{name}: {len(own) - MOST} more notes, in the column note of the measurements")
    return tuple(found)


def _listed(labels: Sequence[str]) -> str:
    rest = f" and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
    return ", ".join(labels[:NAMED]) + rest
