"""A results folder, and what can be asked of it: `pixmix_ray.read(uri)`.

import pixmix_ray

results = pixmix_ray.read("results/quickstart")
results.measurements  # a DataFrame, a row a measurement
results.table()  # method by safety measure, with intervals; shows itself in notebooks
results.front(["clean.error", "corruptions.mce"])
results.select("method=pixmix and k>=3", sort="corruptions.mce").table()
results.sql("select method, value from measurements where metric = 'mce' and condition = ''")
results.report("report.html")

Nothing of it imports torch or Ray, and what only some questions need is imported when one is asked: to read takes half
a second.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from pixmix_ray.analysis.certainty import pairs as pairs_of
from pixmix_ray.analysis.certainty import summary as certainty_summary
from pixmix_ray.analysis.labels import configuration_labels
from pixmix_ray.analysis.pareto import default_objectives
from pixmix_ray.analysis.selection import in_order_of, left_out, matching, of_cells, sorted_by
from pixmix_ray.analysis.variants import Part, apart
from pixmix_ray.errors import RequestError, ResultsError, UnknownNameError
from pixmix_ray.storage.index import read as read_measurements
from pixmix_ray.storage.index import read_rows
from pixmix_ray.storage.kept_plan import read_kept_plan
from pixmix_ray.storage.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from pixmix_ray.analysis.spread import Judged
    from pixmix_ray.report.grid import Grid


class Results:
    """A results folder; it is only read.

    Attributes:
        uri: where it lies.
        store: its files.
        measurements: a DataFrame, a row each: the columns of `pixmix_ray.storage.schema.MEASUREMENTS`, and `cell`; in
            the order of the experiment that was run last.
        left_out: what `select` left out, a line each.
    """

    def __init__(self, uri: str | Path) -> None:
        """Open the folder or URI.

        Raises:
            ResultsError: there are no results there, or they cannot be read.
        """
        self.store = Store(uri)
        self.uri = self.store.uri
        self.left_out: tuple[str, ...] = ()
        self._judged: dict[tuple[str, tuple[str, ...]], Judged] = {}
        self.measurements = in_order_of(read_measurements(self.uri), list(read_kept_plan(self.store).labels))

    def select(
        self, where: str | None = None, *, cells: Sequence[str] | None = None, sort: str | Sequence[str] | None = None
    ) -> "Results":
        """The same results with some of their measurements, or in another order; `sql` still asks all of them.

        Args:
            where: a condition such as "method=pixmix and k>=3" (`pixmix_ray.analysis.selection`).
            cells: names of cells, whose order the rows then have.
            sort: names of columns, settings or objectives, or one text of them with commas; the first counts most.

        Raises:
            RequestError: the condition is none, or names something unknown.
            ResultsError: nothing is left.
        """
        found = copy(self)
        found._judged, frame, lines = {}, self.measurements, list(self.left_out)
        if cells is not None:
            frame = of_cells(frame, cells)
            lines.append(left_out(self.measurements, frame, "--experiment"))
        if where is not None:
            chosen = matching(frame, where)
            lines.append(left_out(frame, chosen, "--where"))
            frame = chosen
        if sort is not None:
            names = sort.split(",") if isinstance(sort, str) else sort
            frame = sorted_by(frame, [name.strip() for name in names])
        found.measurements, found.left_out = frame, tuple(filter(None, lines))
        vars(found).pop("parts", None)
        return found

    @cached_property
    def parts(self) -> list[Part]:
        """The measurements in parts within which everything may be compared; one part is the rule."""
        return apart(self.measurements)

    def part(self, variant: str | None = None) -> Part:
        """One of `parts`: the only one, that whose label is `variant`, or that whose label holds this text.

        Raises:
            RequestError: there are several and none is asked for, or several or none hold the text.
        """
        found = [part for part in self.parts if part.label == variant]  # "limit 60" is not "limit 600"
        found = found or [part for part in self.parts if variant is None or variant in part.label]
        if len(found) == 1:
            return found[0]
        labels = "; ".join(repr(part.label) for part in self.parts)
        if variant is None:
            count = len(self.parts)
            raise RequestError(f"measured with {count} different settings or data: choose a variant: {labels}")
        if len(self.parts) == 1:
            raise RequestError(f"variant {variant!r}: all results here have the same settings and data: leave it out")
        how_many = f"{len(found)} variants have" if found else "no variant has"
        raise RequestError(f"{how_many} the text {variant!r}: choose one of {labels}")

    def objectives(self, part: Part, names: Sequence[str] | None = None) -> list[str]:
        """The names, checked; clean error and the paper's safety measures for none.

        Raises:
            UnknownNameError: one was not measured: the nearest that was is named.
            RequestError: one is a condition, such as a corruption.
            ResultsError: there is none.
        """
        frame = part.frame
        is_whole = frame["severity"].isna() & (frame["condition"] == "")
        rows = frame[is_whole][["benchmark", "metric"]].drop_duplicates()
        known = [f"{benchmark}.{metric}" for benchmark, metric in rows.itertuples(index=False)]
        wanted = list(dict.fromkeys(names)) if names else default_objectives(frame)
        for name in wanted:
            if name not in known:
                raise _no_objective(name, known, frame)
        if not wanted:
            raise ResultsError(f"no objective in {self.uri}: it holds no measurement over all conditions")
        return wanted

    def judged(self, objectives: Sequence[str] | None = None, *, variant: str | None = None) -> "Judged":
        """The configurations and how sure their objectives are (`pixmix_ray.analysis.certainty`); computed once."""
        from pixmix_ray.analysis.spread import judge

        part = self.part(variant)
        names = tuple(self.objectives(part, objectives))
        if (part.label, names) not in self._judged:
            self._judged[part.label, names] = judge(self.store, part.frame, names)
        return self._judged[part.label, names]

    def table(
        self, objectives: Sequence[str] | None = None, *, paper: int | str | None = None, variant: str | None = None
    ) -> "Grid":
        """Method by safety measure with 95 % intervals; or the paper's table of that number, ours beside theirs.

        Args:
            objectives: names "benchmark.metric"; none: clean error and the paper's safety measures.
            paper: 1 to 15, or "figure4".
            variant: text in the name of one of `parts`, where there are several.

        Raises:
            RequestError: something is unknown, or there are several parts.
        """
        if paper is not None:
            from pixmix_ray.report.paper import paper_grid

            return paper_grid(paper, self.store, self.part(variant).frame)
        from pixmix_ray.report.tables import measures_grid

        found = self.judged(objectives, variant=variant)
        return replace(measures_grid(found.wide, found.certainty.objectives, found.certainty), notes=found.notes)

    def front(self, objectives: Sequence[str] | None = None, *, variant: str | None = None) -> "pd.DataFrame":
        """The configurations, a row each: objectives, `on_front`, `dominated_by`, `missing`, `front_probability`.

        Raises:
            RequestError: as `table`.
        """
        found = self.judged(objectives, variant=variant)
        labels = configuration_labels(found.wide)
        return found.wide.assign(label=labels, front_probability=found.certainty.on_front)

    def certainty(
        self, objectives: Sequence[str] | None = None, *, pairs: bool = False, variant: str | None = None
    ) -> "pd.DataFrame":
        """How sure each value is, and what of its spread is due to seeds; or of each pair which one is better.

        Args:
            objectives: as for `table`.
            pairs: whether pairs are asked for.
            variant: as for `table`.

        Raises:
            RequestError: as `table`.
        """
        found = self.judged(objectives, variant=variant)
        made = pairs_of if pairs else certainty_summary
        return made(found.certainty, configuration_labels(found.wide))

    def predictions(self, **where: object) -> "pd.DataFrame":
        """What the networks said of each picture, a row each, of the cells that the arguments select.

        Args:
            **where: values of cell, trial_id, benchmark, method or seed.

        Raises:
            UnknownNameError: another argument.
        """
        import pyarrow.dataset as ds

        from pixmix_ray.analysis.sql import OF_CELL, prediction_rows

        chosen = None
        for name, value in where.items():
            if name not in OF_CELL:
                raise UnknownNameError("column of predictions to select by", name, OF_CELL)
            one = ds.field(name) == value
            chosen = one if chosen is None else chosen & one
        if self.left_out:
            own = ds.field("cell").isin(self.measurements["cell"].astype(str).unique().tolist())
            chosen = own if chosen is None else chosen & own
        found: pd.DataFrame = (
            prediction_rows(self.store, read_rows(self.store, OF_CELL)).to_table(filter=chosen).to_pandas()
        )
        return found

    def sql(self, text: str) -> "pd.DataFrame":
        """What an SQL statement returns; tables: measurements, predictions, trials, failures, published.

        Raises:
            RequestError: DuckDB does not accept it.
        """
        from pixmix_ray.analysis.sql import query

        return query(self.store, text)

    def report(self, file: str | Path, *, variant: str | None = None) -> Path:
        """Write the page of these results, one file that needs no network, and return where it is.

        Args:
            file: where to.
            variant: text in the name of the one of `parts` to show; none shows all.

        Raises:
            RequestError: there is no such part, or the file cannot be written.
        """
        from pixmix_ray.report.page import write_page

        frame = self.measurements if variant is None else self.part(variant).frame
        return write_page(self.store, frame, Path(file))

    def __repr__(self) -> str:
        frame = self.measurements
        return (
            f"<results {self.uri}: {frame['trial_id'].nunique()} trials, {frame['cell'].nunique()} cells, "
            f"{len(frame)} measurements of {', '.join(sorted(set(frame['benchmark'])))}>"
        )

    def _repr_html_(self) -> str:
        """The tables of all parts, as notebooks show them."""
        grids = [self.table(variant=part.label or None) for part in self.parts]
        titles = [f"<p>{escape(part.label)}</p>" if part.label else "" for part in self.parts]
        return "".join(title + grid._repr_html_() for title, grid in zip(titles, grids, strict=True))


def read(uri: str | Path) -> Results:
    """The results at a local path or a URI such as s3://bucket/folder.

    Cells that are damaged are set aside and left out, with a warning.

    Raises:
        ResultsError: there are no results there, or they cannot be read.
    """
    return Results(uri)


def _no_objective(name: str, known: Sequence[str], frame: "pd.DataFrame") -> RequestError:
    """Why a name is no objective: it is unknown, or one condition of a benchmark."""
    benchmark, _, condition = name.rpartition(".")
    rows = frame[(frame["benchmark"] == benchmark) & (frame["condition"] == condition)]
    if not condition or rows.empty:
        return UnknownNameError("objective", name, known)
    return RequestError(
        f"{name!r} is one condition of {benchmark}, and an objective is over all conditions: choose among "
        f"{', '.join(one for one in known if one.startswith(f'{benchmark}.'))}; single conditions are in `pixmix-ray "
        "report` and `query`"
    )
