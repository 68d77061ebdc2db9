"""The table and front of measurements as one DataFrame, for programs and trackers."""

import pandas as pd

from pixmix_ray.analysis.labels import configuration_labels
from pixmix_ray.analysis.pareto import default_objectives
from pixmix_ray.analysis.spread import judge
from pixmix_ray.analysis.variants import apart
from pixmix_ray.storage.store import Store


def summary(store: Store, frame: pd.DataFrame) -> pd.DataFrame:
    """A row a configuration and way of measuring; fractions.

    Columns: measured (the way, "" where there is one), label, dataset, seeds; for each objective its value, and
    `<objective>.low` and `.high`, the ends of the 95 % interval; on_front, front_probability, dominated_by (labels,
    semicolons between them).

    Args:
        store: the results folder.
        frame: its measurements; unchanged.
    """
    tables = []
    for part in apart(frame) if len(frame) else []:
        names = default_objectives(part.frame)
        if not names:
            continue
        judged = judge(store, part.frame, names)
        wide, found = judged.wide, judged.certainty
        labels = configuration_labels(wide)
        columns = {
            "measured": part.label,
            "label": labels,
            "dataset": wide["dataset"].astype(str),
            "seeds": wide["seeds"],
        }
        table = pd.DataFrame(columns)
        for number, name in enumerate(names):
            table[name] = wide[name]
            table[f"{name}.low"], table[f"{name}.high"] = found.intervals[:, number].T
        named = dict(zip(wide.index.tolist(), labels, strict=True))
        dominated = ["; ".join(named[row] for row in rows) for rows in wide["dominated_by"]]
        tables.append(table.assign(on_front=wide["on_front"], front_probability=found.on_front, dominated_by=dominated))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
