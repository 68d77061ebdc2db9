"""Measurements in the forms that other projects take: RobustBench, OpenOOD, timm, Hugging Face.

Each takes accuracies in percent where ours are error fractions, and asks for what only the authors know (a paper's
title, a link), which stays empty. What a form asks for and was not measured stays empty too, and a line says so. A
configuration is one entry, with the mean over its seeds.

Sources of the forms, read 2026-11: RobustBench/robustbench, model_info/*.json and unaggregated_results.csv; OpenOOD's
evaluation API, `Evaluator.eval_ood`; huggingface/pytorch-image-models, results/results-imagenet.csv;
huggingface/hub-docs, modelcard.md, and `huggingface_hub.EvalResult`.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from pixmix_ray.analysis.histories import labelled_trials
from pixmix_ray.analysis.labels import with_labels
from pixmix_ray.errors import ResultsError
from pixmix_ray.storage.cell import read_predictions
from pixmix_ray.storage.schema import CONFIGURATION
from pixmix_ray.storage.store import Store, trial_file

# in RobustBench's order
CORRUPTIONS = (
    "shot_noise",
    "motion_blur",
    "snow",
    "pixelate",
    "gaussian_noise",
    "defocus_blur",
    "brightness",
    "fog",
    "zoom_blur",
    "frost",
    "glass_blur",
    "impulse_noise",
    "contrast",
    "jpeg_compression",
    "elastic_transform",
)
SEVERITIES = (1, 2, 3, 4, 5)
TIMM = ("model", "top1", "top1_err", "top5", "top5_err", "param_count", "img_size", "crop_pct", "interpolation")
OPENOOD = ("dataset", "FPR@95", "AUROC", "AUPR_IN", "AUPR_OUT", "ACC")
RECALL = 0.95
INSIDE = "in_distribution"


@dataclass(frozen=True, kw_only=True)
class Forms:
    """The files of a form.

    Attributes:
        files: content by path.
        notes: what was asked for and is not there; a line each.
    """

    files: Mapping[str, str]
    notes: tuple[str, ...] = field(default_factory=tuple)


def robustbench(store: Store, frame: pd.DataFrame) -> Forms:
    """A file of model_info an entry and threat model, and the table of all corruptions at all severities.

    Args:
        store: the results folder.
        frame: its measurements, one variant of each benchmark; unchanged.
    """
    files: dict[str, str] = {}
    notes: list[str] = []
    for entry in _entries(frame):
        clean, corrupted = entry.mean("clean", "error"), entry.mean("corruptions", "error")
        common = {
            "link": "",
            "name": "",
            "authors": "",
            "additional_data": None,
            "number_forward_passes": 1,
            "dataset": entry.dataset,
            "venue": "",
            "architecture": entry.model,
            "clean_acc": _percent(clean),
            "reported": "",
        }
        if corrupted is not None:
            about = {**common, "eps": None, "corruptions_acc": _percent(corrupted)}
            files[f"model_info/{entry.dataset}/corruptions/{entry.file_name}.json"] = _json(about)
        attack = entry.settings_of("adversaries")
        robust = entry.mean("adversaries", "error")
        if robust is not None and attack.get("attack") == "autoattack":
            threat = {"linf": "Linf", "l2": "L2"}.get(str(attack.get("norm")), "Linf")
            about = {**common, "eps": _eps(attack.get("eps")), "autoattack_acc": _percent(robust), "unreliable": False}
            files[f"model_info/{entry.dataset}/{threat}/{entry.file_name}.json"] = _json(about)
        elif robust is not None:
            notes.append(
                f"{entry.label}: RobustBench accepts only AutoAttack, and adversaries used {attack.get('attack')}"
            )
    tables, lacking = _unaggregated(frame)
    return _forms({**files, **tables}, [*notes, *lacking], "corruptions, or adversaries with attack: autoattack")


def openood(store: Store, frame: pd.DataFrame) -> Forms:
    """OpenOOD's table of each entry and seed, from the stored predictions: its confidence is the largest probability.

    There the ordinary pictures are the positives of FPR@95 and AUPR_IN, which is another number than our fpr95.
    """
    files = {}
    names = labelled_trials(frame).set_index("trial_id")["label"].to_dict()
    file_names = _file_names(names.values())
    cells = frame[frame["benchmark"] == "anomalies"].drop_duplicates("cell")
    errors = frame[(frame["benchmark"] == "clean") & (frame["metric"] == "error") & (frame["condition"] == "")]
    accuracy = {trial: 100 * (1 - value) for trial, value in zip(errors["trial_id"], errors["value"], strict=True)}
    for cell in cells.to_dict("records"):
        rows = _openood_rows(store, str(cell["cell"]), accuracy.get(cell["trial_id"]))
        name = f"{file_names[names[cell['trial_id']]]}-s{cell['seed']}"
        files[f"{_file_name(str(cell['dataset']))}/{name}/ood.csv"] = _csv(OPENOOD, rows)
    return _forms(files, [] if accuracy else ["ACC is empty: the benchmark clean was not measured"], "anomalies")


def timm(store: Store, frame: pd.DataFrame) -> Forms:
    """The table of results of each data set as timm has it, best first; top5 is empty, as it is not kept."""
    files: dict[str, str] = {}
    rows: dict[str, list[dict[str, Any]]] = {}
    for entry in _entries(frame):
        for benchmark, name in (("clean", entry.dataset), ("renditions", "imagenet-r")):
            error = entry.mean(benchmark, "error")
            if error is None:
                continue
            row = {"model": f"{entry.model}.{entry.file_name}", "top1": f"{100 * (1 - error):.3f}"}
            row |= {"top1_err": f"{100 * error:.3f}", "param_count": _millions(store, entry.trials[0])}
            rows.setdefault(name, []).append(row)
    for name, found in rows.items():
        best_first = sorted(found, key=lambda row: -float(row["top1"]))
        files[f"results-{name}.csv"] = _csv(TIMM, best_first)
    return _forms(files, ["top5 is empty: the predictions contain only the first class"], "clean")


def hf(store: Store, frame: pd.DataFrame) -> Forms:
    """A model card an entry, whose model-index holds every aggregate: accuracies, and fractions."""
    files = {}
    for entry in _entries(frame):
        results = []
        for (benchmark, metric), value in entry.aggregates().items():
            is_error = metric == "error"
            kind = "accuracy" if is_error else metric
            results.append(
                {
                    "task": {"type": "image-classification", "name": "Image Classification"},
                    "dataset": {"type": entry.dataset, "name": f"{entry.dataset}, {benchmark}", "split": "test"},
                    "metrics": [
                        {
                            "type": kind,
                            "name": f"{benchmark} {kind}",
                            "value": round(1 - value if is_error else value, 6),
                        }
                    ],
                }
            )
        card: dict[str, Any] = {"library_name": "pixmix_ray", "tags": ["image-classification", "robustness"]}
        card |= {"model-index": [{"name": entry.file_name, "results": results}]}
        text = yaml.safe_dump(card, sort_keys=False, allow_unicode=True)
        body = (
            f"# {entry.file_name}\n\n{entry.model} trained on {entry.dataset}; means over {len(entry.trials)} seeds.\n"
        )
        files[f"{entry.file_name}/README.md"] = f"---\n{text}---\n\n{body}"
    return _forms(files, [], "any benchmark")


FORMS: Mapping[str, Callable[[Store, pd.DataFrame], Forms]] = {
    "robustbench": robustbench,
    "openood": openood,
    "timm": timm,
    "hf": hf,
}
"""The forms by their names."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Entry:
    """A configuration: its name, and its rows over all severities and conditions."""

    label: str
    file_name: str
    dataset: str
    model: str
    trials: tuple[str, ...]
    rows: pd.DataFrame

    def mean(self, benchmark: str, metric: str) -> float | None:
        """The mean over the seeds; none where it was not measured."""
        found = self.rows[(self.rows["benchmark"] == benchmark) & (self.rows["metric"] == metric)]["value"]
        return float(found.mean()) if len(found) else None

    def aggregates(self) -> dict[tuple[str, str], float]:
        """Every mean over the seeds, by benchmark and metric."""
        means = self.rows.groupby(["benchmark", "metric"], sort=False)["value"].mean()
        return {(str(key[0]), str(key[1])): float(value) for key, value in means.items() if isinstance(key, tuple)}

    def settings_of(self, benchmark: str) -> dict[str, Any]:
        found = self.rows[self.rows["benchmark"] == benchmark]["benchmark_settings"]
        values = json.loads(str(found.iloc[0])) if len(found) else {}
        return values if isinstance(values, dict) else {}


def _entries(frame: pd.DataFrame) -> Iterator[_Entry]:
    whole = frame[frame["severity"].isna() & (frame["condition"] == "") & frame["value"].notna()]
    identity = [name for name in CONFIGURATION if name in whole.columns]
    labels = with_labels(whole[identity].drop_duplicates(ignore_index=True), frame)["label"].tolist()
    groups = [rows for _, rows in whole.groupby(identity, dropna=False, sort=False, observed=True)]
    names = _file_names(labels)
    for label, rows in zip(labels, groups, strict=True):
        first, trials = rows.iloc[0], tuple(dict.fromkeys(rows["trial_id"].astype(str)))
        dataset, model = (_file_name(str(first[name])) for name in ("dataset", "model"))
        yield _Entry(label=label, file_name=names[label], dataset=dataset, model=model, trials=trials, rows=rows)


def _forms(files: Mapping[str, str], notes: Sequence[str], needed: str) -> Forms:
    if not files:
        raise ResultsError(f"nothing to export in this format: measure the benchmark {needed} first")
    return Forms(files=files, notes=tuple(dict.fromkeys(notes)))


def _unaggregated(frame: pd.DataFrame) -> tuple[dict[str, str], list[str]]:
    """RobustBench's table of accuracies, a row an entry and a column a corruption and severity, for each data set."""
    rows = frame[(frame["benchmark"] == "corruptions") & (frame["metric"] == "error") & frame["severity"].notna()]
    rows = rows[rows["condition"].isin(CORRUPTIONS)]
    files: dict[str, str] = {}
    notes: list[str] = []
    labels = labelled_trials(frame).set_index("trial_id")["label"].to_dict()
    file_names = _file_names(labels.values())
    rows = rows.assign(label=[labels[trial] for trial in rows["trial_id"]], severity=rows["severity"].astype(int))
    for dataset, part in rows.groupby("dataset", sort=False):
        means = part.groupby(["label", "condition", "severity"], sort=False)["value"].mean().to_dict()
        keys = [(name, severity) for name in CORRUPTIONS for severity in SEVERITIES]
        lines: list[list[object]] = [["", *(name for name, _ in keys)], ["", *(severity for _, severity in keys)]]
        for label in dict.fromkeys(part["label"]):
            values = [means.get((label, *key)) for key in keys]
            lines.append([file_names[label], *("" if value is None else round(1 - value, 4) for value in values)])
            if missing := sorted({name for (name, _), value in zip(keys, values, strict=True) if value is None}):
                notes.append(f"{label}: not measured on {', '.join(missing)}: these cells are empty")
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows(lines)
        files[f"model_info/{_file_name(str(dataset))}/corruptions/unaggregated_results.csv"] = stream.getvalue()
    return files, notes


def _openood_rows(store: Store, cell: str, accuracy: float | None) -> list[dict[str, Any]]:
    table = read_predictions(store, cell)
    if table is None:
        return []
    rows = table.select(["condition", "confidence"]).to_pandas()
    inside = rows["confidence"][rows["condition"] == INSIDE].to_numpy(dtype=np.float64)
    found = []
    for name, part in rows[rows["condition"] != INSIDE].groupby("condition", observed=True):
        values = openood_metrics(inside, part["confidence"].to_numpy(dtype=np.float64))
        found.append((_file_name(str(name)), values))
    if not found:
        return []
    # sets of outliers that none of its near ones are among
    found.append(("farood", np.mean([values for _, values in found], axis=0)))
    shown = "" if accuracy is None else f"{accuracy:.2f}"
    names = OPENOOD[1:-1]
    return [
        {"dataset": name, **{key: f"{100 * value:.2f}" for key, value in zip(names, values, strict=True)}, "ACC": shown}
        for name, values in found
    ]


def openood_metrics(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> NDArray[np.float64]:
    """FPR@95, AUROC, AUPR_IN and AUPR_OUT as OpenOOD has them, fractions.

    By hand: 95 % of two are one, which is kept at .9, and one of two outside is above it; three of the four pairs are
    in the wrong order.

    >>> openood_metrics(np.array([0.9, 0.1]), np.array([0.95, 0.2]))[:2].tolist()
    [0.5, 0.25]

    Args:
        inside: (N,) confidences of ordinary pictures, higher for more ordinary ones.
        outside: (M,) those of strange ones.
    """
    from sklearn.metrics import auc, precision_recall_curve, roc_auc_score

    confidence = np.concatenate([inside, outside])
    is_inside = np.arange(len(confidence)) < len(inside)
    kept = max(int(np.floor(RECALL * len(inside))), 1)  # of the most confident
    threshold = np.sort(inside)[-kept]
    areas = []
    for positive, score in ((is_inside, confidence), (~is_inside, -confidence)):
        precision, recall, _ = precision_recall_curve(positive, score)
        areas.append(auc(recall, precision))
    return np.array([np.mean(outside > threshold), roc_auc_score(is_inside, confidence), *areas])


def _file_name(text: str) -> str:
    """A name, which may be anybody's, as that of a file on every system, and no formula in a table."""
    return re.sub(r"[^A-Za-z0-9_+.=-]+", "_", text).strip("._").lstrip("=+-") or "entry"


def _file_names(labels: Iterable[str]) -> dict[str, str]:
    """For each label a name of its own; of labels that differ in strange letters alone, with a number."""
    found: dict[str, str] = {}
    for label in dict.fromkeys(labels):
        name, number = _file_name(label), 1
        while name in found.values():
            number += 1
            name = f"{_file_name(label)}-{number}"
        found[label] = name
    return found


def _percent(error: float | None) -> str:
    return "" if error is None else f"{100 * (1 - error):.2f}"


def _eps(value: object) -> str | None:
    """A radius as RobustBench writes it: 8/255, or a number."""
    if not isinstance(value, int | float):
        return None
    steps = Fraction(value * 255).limit_denominator(10)
    return f"{steps}/255" if abs(float(steps) - value * 255) < 1e-9 and steps.denominator == 1 else f"{value:g}"


def _millions(store: Store, trial_id: str) -> str:
    """The parameters of a trial's network in millions, from the header of its weights; "" where there are none."""
    path = trial_file(trial_id, "model.safetensors")
    start = store.read_start(path, 8)
    if start is None:
        return ""
    length = int.from_bytes(start, "little")
    header = json.loads((store.read_start(path, 8 + min(length, 10**8)) or b"")[8:] or b"{}")
    shapes = [
        one["shape"] for name, one in header.items() if name != "__metadata__" and name.endswith(("weight", "bias"))
    ]
    return f"{sum(int(np.prod(shape)) for shape in shapes) / 1e6:.2f}"


def _csv(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2) + "\n"
