"""What runs used: kept, added up and told."""

import json
from pathlib import Path

import pytest

from pixmix_ray.errors import ResultsError
from pixmix_ray.experiment.resources import Share
from pixmix_ray.planning.usage import Spent, Usage, last_usage, read_usage, total_usage, write_usage
from pixmix_ray.report.usage import took_line
from pixmix_ray.storage.store import Store, run_file


def test_runs_are_kept_and_added_up(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert total_usage(store) is None and last_usage(store) is None
    for run, seconds in {"20260101T000000-b": 10.0, "20260102T000000-a": 30.0}.items():
        spent = (
            Spent(kind="training", name="pixmix").plus(seconds, Share(cpus=1, gpus=1)),
            Spent(kind="evaluation", name="clean").plus(2, Share(cpus=2, gpus=0.5)),
        )
        usage = Usage(
            seconds=seconds,
            cpu_seconds=2 * seconds,
            gpu_seconds=seconds,
            spent=spent,
            expected_seconds=9,
            expected_work=8,
        )
        write_usage(store, run, usage)
        assert read_usage(store, run) == usage
    last, total = last_usage(store), total_usage(store)
    assert last is not None and total is not None
    assert last.work == 32
    assert (total.seconds, total.cpu_seconds, total.gpu_seconds) == (40, 80, 40)
    assert total.spent == (
        Spent(kind="evaluation", name="clean", count=2, seconds=4, cpu_seconds=8, gpu_seconds=2),
        Spent(kind="training", name="pixmix", count=2, seconds=40, cpu_seconds=40, gpu_seconds=40),
    )


@pytest.mark.parametrize("content", [{}, {"spent": 1}, {"spent": [], "seconds": 1, "more": 2}])
def test_a_damaged_account_is_refused_by_name(tmp_path: Path, content: object) -> None:
    store = Store(tmp_path)
    store.write(run_file("a"), json.dumps(content).encode())
    with pytest.raises(ResultsError, match=r"runs/a\.json in .* is damaged"):
        total_usage(store)


def test_the_estimate_stands_beside_what_it_took() -> None:
    def line(seconds: float | None) -> str:
        spent = (Spent(kind="training", name="pixmix", count=1, seconds=8, cpu_seconds=8),)
        usage = Usage(
            seconds=1800, cpu_seconds=2, gpu_seconds=0, spent=spent, expected_seconds=seconds, expected_work=seconds
        )
        return took_line(usage)

    assert line(7.4) == "estimated 7 s, 7 s of work; took 0.50 h, 8 s of work"
    assert line(None) == "took 0.50 h, 8 s of work; there was no estimate, as nothing similar had been measured"
