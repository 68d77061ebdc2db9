"""--where, --experiment, --sort and --variant: which results a command shows, the same for all of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from pixmix_ray.cli.console import tell
from pixmix_ray.errors import RequestError

if TYPE_CHECKING:
    from pixmix_ray.planning.plan import Plan
    from pixmix_ray.planning.status import Status
    from pixmix_ray.results import Results

Where = Annotated[
    Optional[str],  # noqa: UP045  # typer reads this form on every Python that we support
    typer.Option(metavar="CONDITION", help='Only rows that meet this condition, such as "method=pixmix and k>=3".'),
]
Experiment = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(metavar="FILE", help="Only the rows of this experiment file, in its order."),
]
Sort = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(metavar="NAMES", help="Order by objectives, columns or settings, such as clean.error or method,-k."),
]
Variant = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        metavar="TEXT", help="Where settings of a benchmark differ, only the results with this text in their label."
    ),
]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What was asked for; see the options."""

    where: Where = None
    experiment: Experiment = None
    sort: Sort = None
    variant: Variant = None

    def open(self, results: str) -> "Results":
        """The results, as far as they are asked for; what is left out is said."""
        from pixmix_ray.results import read

        opened = read(results)
        cells = None if self.experiment is None else cells_of(self.experiment, opened.uri)
        found = opened.select(self.where, cells=cells, sort=self.sort)
        for line in found.left_out:
            tell(line)
        return found

    def of_status(self, status: "Status") -> "Status":
        """The trials of a status that are asked for, and their failures."""
        if self == Selection():
            return status
        from pixmix_ray.analysis.selection import matching, sorted_by
        from pixmix_ray.analysis.sql import trial_rows
        from pixmix_ray.storage.store import Store

        frame = trial_rows(Store(status.uri))
        if self.experiment is not None:
            wanted = trials_of(self.experiment, status.uri)
            frame = frame[frame["trial_id"].isin(wanted)]
            frame = frame.sort_values("trial_id", key=lambda ids: ids.map(wanted.index))
        if self.where is not None:
            frame = matching(frame, self.where)
        if self.sort is not None:
            frame = sorted_by(frame, [name.strip() for name in self.sort.split(",")])
        chosen = status.only(frame["trial_id"].tolist())
        if others := len(status.trials) - len(chosen.trials):
            asked = " and ".join(
                f"--{name}" for name, value in vars(self).items() if value is not None and name != "sort"
            )
            tell(f"left out: {others} of {len(status.trials)} trials; show them without {asked}")
        return chosen

    def refuse(self, why: str) -> None:
        """Raise RequestError if something is asked for."""
        for name, value in vars(self).items():
            if value is not None:
                raise RequestError(f"--{name} {value}: {why}")


def cells_of(file: Path, results: str) -> list[str]:
    """The names of the cells of an experiment file in some results, in its order."""
    return [cell.name for cell in _plan(file, results).cells if cell.name is not None]


def trials_of(file: Path, results: str) -> list[str]:
    """The ids of the trials of an experiment file, in its order."""
    return [trial.id for trial in _plan(file, results).trials]


def _plan(file: Path, results: str) -> "Plan":
    """What an experiment file is in some results."""
    from pixmix_ray.experiment.file import read_experiment
    from pixmix_ray.planning.plan import make_plan

    return make_plan(read_experiment(file).model_copy(update={"results": results}))
