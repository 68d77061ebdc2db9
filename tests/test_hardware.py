"""What this process may use of the machine."""

import os
from pathlib import Path

import pytest

from pixmix_ray import hardware


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "250000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "6400000 100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu.max": "max 100000", "job/step/cpu.max": "200000 100000"}, 2),
        ({"job/cpu.max": "200000 100000", "job/step/cpu.max": "max 100000"}, 2),
        ({"other/cpu.max": "200000 100000"}, 8),
        ({"cpu,cpuacct/old/cpu.cfs_quota_us": "200000", "cpu,cpuacct/old/cpu.cfs_period_us": "100000"}, 2),
    ],
    ids=repr,
)
def test_cores_are_those_of_the_affinity_within_the_quota(
    files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(hardware, "CGROUP", tmp_path)
    (tmp_path / "own").write_text("9:memory:/other\n3:cpu,cpuacct:/old\n0::/job/step\n")
    monkeypatch.setattr(hardware, "OWN_GROUPS", tmp_path / "own")
    assert hardware.usable_cores() == cores
