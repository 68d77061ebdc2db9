"""A grid of augmented pictures, a row a method: what Figure 1 of the paper shows. The only figure that needs torch."""

from typing import TYPE_CHECKING

import pandas as pd

from pixmix_ray.errors import ResultsError
from pixmix_ray.report.figures.style import new_figure, plain
from pixmix_ray.storage.store import Store, trial_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from pixmix_ray.experiment.trial import Trial

COUNT = 8  # pictures in a row
MOST_ROWS = 16


def augmented_pictures(store: Store, trials: pd.DataFrame) -> pd.DataFrame:
    """The first training pictures as each method makes them: label, picture (H, W, 3) uint8; a row a picture.

    The first rows are of the unchanged pictures, `original`. Methods that need a training of their own to begin (as
    those that learn) are shown as they start.

    Args:
        store: the results folder, whose trial files say what the methods are.
        trials: label and trial_id.

    Raises:
        ResultsError: no trial has a file here, as of checkpoints from elsewhere.
        DataError: the data set or a mixing set is missing.
    """
    import torch

    from pixmix_ray.seeding import torch_generator

    rows: list[dict[str, object]] = []
    for label, trial_id in trials[["label", "trial_id"]].head(MOST_ROWS).itertuples(index=False):
        trial = _trial(store, str(trial_id))
        if trial is None:
            continue
        dataset = trial.dataset.settings.load()
        images = torch.from_numpy(dataset.some_train_images(COUNT)).permute(0, 3, 1, 2).contiguous()
        if not rows:
            rows += [{"label": "original", "picture": picture} for picture in dataset.some_train_images(COUNT)]
        pictures = _crops(trial, images.shape[2]) if trial.mixing_set is not None else None
        made = trial.method.settings.augment(images, pictures, torch_generator(trial.seed, "sheet"))
        if made.ndim == 5:  # several views of each picture: the last is the most changed
            made = made[:, -1]
        shown = (made.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        rows += [{"label": label, "picture": picture} for picture in shown]
    if not rows:
        raise ResultsError(f"no trial of {store.uri} has a method to draw: checkpoints from elsewhere have none")
    return pd.DataFrame(rows)


def draw_pictures(frame: pd.DataFrame) -> "Figure":
    """The pictures of `augmented_pictures`, a row a label."""
    labels = list(dict.fromkeys(frame["label"]))
    figure = new_figure(0.9 + 0.62 * COUNT, 0.66 * len(labels))
    panels = figure.subplots(len(labels), COUNT, squeeze=False)
    for row, label in zip(panels, labels, strict=True):
        pictures = list(frame["picture"][frame["label"] == label])
        for axes in row:
            axes.set_axis_off()
        for axes, picture in zip(row, pictures, strict=False):
            axes.imshow(picture, interpolation="nearest")
        row[0].text(-0.15, 0.5, plain(label), transform=row[0].transAxes, ha="right", va="center", fontsize=6.5)
    return figure


def _trial(store: Store, trial_id: str) -> "Trial | None":
    """The trial of that file; none where there is none. Classes that are not ours are not imported."""
    from pixmix_ray.experiment.trial import Trial
    from pixmix_ray.plugins import check_trusted

    path = trial_file(trial_id, "trial.json")
    values = store.read_json(path)
    if values is None:
        return None
    check_trusted(values, f"{path} in {store.uri}", is_trusted=False)
    return Trial.load(values)


def _crops(trial: "Trial", side: int) -> "Tensor":
    """Pictures of the trial's mixing set as training crops them, uint8 (COUNT, 3, side, side)."""
    from pixmix_ray.mixing_sets import shorter_side_for
    from pixmix_ray.seeding import torch_generator

    assert trial.mixing_set is not None
    found = trial.mixing_set.settings.pictures(shorter_side_for(side)).to("cpu")
    return found.crops(COUNT, side, torch_generator(trial.seed, "sheet"))
