"""What is in use on this machine."""

import os
from pathlib import Path

import pytest

from pixmix_ray.report.usage import GpuUse, MachineUse, machine_use, parse_gpus


def test_memory_is_that_of_the_machine() -> None:
    found = machine_use()
    assert found.memory_total == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < found.memory_used < found.memory_total


def test_gpus_are_those_that_nvidia_smi_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '87, 12288, 81920'\necho '0, 0, 81920'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    first, second = machine_use().gpus
    assert (first.busy, first.memory_used, second.memory_total) == (0.87, 12 * 2**30, 80 * 2**30)


@pytest.mark.parametrize("script", ["exit 9", "echo 'No devices were found'", "echo '[N/A], 1, 2'"])
def test_a_driver_in_trouble_is_no_gpu_and_no_error(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert machine_use().gpus == ()


def test_the_line_says_gigabytes() -> None:
    gpu = GpuUse(busy=0.5, memory_used=2**30, memory_total=2**32)
    use = MachineUse(memory_used=3 * 2**29, memory_total=2**34, gpus=(gpu,))
    assert use.line() == "memory 1.5 of 16.0 GB; GPU 0: 50 %, 1.0 of 4.0 GB"
    assert parse_gpus("") == ()
