"""The compiled image operations: the same numbers as those of PyTorch, and never needed."""

import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pixmix_ray.methods import AugMix, IPMix, PixMix, RandAugment
from pixmix_ray.transforms import OPERATIONS, blending, flip_and_crop, native, nearest, paint_, to_unit

compiled = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
SIZES = [(1, 1), (8, 8), (5, 9), (32, 32), (64, 48), (224, 224)]


def _generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _pictures(count: int, height: int, width: int, seed: int = 1) -> Tensor:
    """Noise, but for one picture of a single value and one of few, in a layout that is not contiguous."""
    images = torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=_generator(seed))
    images[0], images[1] = 7, images[1] // 100 * 100
    return images.permute(0, 3, 1, 2)


def _both_ways(monkeypatch: pytest.MonkeyPatch, make: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """What the compiled operations make, and what PyTorch makes."""
    assert native.library() is not None
    first = make()
    with monkeypatch.context() as patch:
        patch.setenv("PIXMIX_RAY_NATIVE", "0")
        assert native.library() is None
        return first, make()


def _parameters(name: str, count: int) -> Tensor:
    numbers = torch.rand(count, dtype=torch.float64, generator=_generator(2))
    if name == "posterize":
        return 1 + (numbers * 8).long()
    if name == "solarize":
        return (numbers * 300).long() - 20
    if name == "rotate":
        return (numbers * 720).long() - 360
    if name.startswith("translate"):
        return torch.where(numbers < 0.5, numbers * 40 - 10, (numbers * 80 - 60).round())
    return numbers * 4 - 1


@compiled
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_operation_makes_the_same_bytes_as_with_pytorch(
    height: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 6 if height == 224 else 40
    images = _pictures(count, height, width)
    before = images.clone()
    for name, operation in OPERATIONS.items():
        parameters = _parameters(name, count)
        fast, plain = _both_ways(monkeypatch, lambda o=operation, p=parameters: o(images, p))  # type: ignore[misc]
        assert torch.equal(fast, plain), name
    for operate in (nearest.rotate, nearest.shear_x, nearest.shear_y):
        parameters = torch.rand(count, dtype=torch.float64, generator=_generator(3)) * 2 - 1
        angles = parameters * 180 if operate is nearest.rotate else parameters
        fast, plain = _both_ways(monkeypatch, lambda o=operate, p=angles: o(images, p, 128))  # type: ignore[misc]
        assert torch.equal(fast, plain), operate.__name__
    assert torch.equal(images, before)


@compiled
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("padding", [0, 4, 11])
def test_flip_and_crop_are_the_same(flip: bool, padding: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images = _pictures(50, 9, 13)
    fast, plain = _both_ways(monkeypatch, lambda: flip_and_crop(images, _generator(), flip=flip, padding=padding))
    assert torch.equal(fast, plain)


@compiled
def test_values_in_the_unit_interval_boxes_and_mixes_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = _pictures(60, 9, 13)
    assert torch.equal(*_both_ways(monkeypatch, lambda: to_unit(torch.arange(256).to(torch.uint8))))
    edges = torch.randint(0, 9, (4, 60), generator=_generator())
    boxes = torch.stack([edges[:2].amin(0), edges[:2].amax(0), edges[2:].amin(0), edges[2:].amax(0)])
    start = torch.rand(pictures.shape, generator=_generator())
    assert torch.equal(*_both_ways(monkeypatch, lambda: paint_(start.clone(), boxes, 0.5)))
    partners = torch.randperm(60, generator=_generator())
    uniforms = torch.rand(2, 60, dtype=torch.float64, generator=_generator())
    a, b = blending.coefficients(uniforms[0], uniforms[1], uniforms[0] < 0.5, 3.0)
    start[start < 0.1] = 0
    sources = pictures.contiguous()
    for blend_ in (blending.add_, blending.multiply_):

        def mixed(blend_: Callable[..., None] = blend_) -> Tensor:
            state = start.clone()
            blend_(state, sources, partners, a, b)
            return state

        assert torch.equal(*_both_ways(monkeypatch, mixed))


@compiled
@pytest.mark.parametrize("method", [PixMix(), AugMix(), RandAugment(), IPMix()])
@pytest.mark.parametrize("size", [8, 32, 96])
def test_a_method_makes_the_same_pictures_with_any_number_of_threads(
    method: PixMix, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, pictures = _pictures(40, size, size), _pictures(40, size, size, seed=5)
    fast, plain = _both_ways(monkeypatch, lambda: method.augment(images, pictures, _generator()))
    assert torch.equal(fast, plain)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(method.augment(images, pictures, _generator()), fast)
    finally:
        torch.set_num_threads(before)


def _has_powers(images: Tensor) -> None:
    if not blending.has_compiled_powers(images):
        pytest.skip("this processor, or this build of torch, has not the powers that products need")


@compiled
@pytest.mark.parametrize(
    "method",
    [
        PixMix(k=0),
        PixMix(k=1, operations="nine"),
        PixMix(k=2, partner="pictures"),
        PixMix(k=3, severity=10, beta=0.5),
        PixMix(k=4, operations="nine", partner="augmented"),
        PixMix(k=9),
    ],
)
@pytest.mark.parametrize(("height", "width"), [(8, 8), (32, 32), (33, 17), (1, 5)])
def test_pixmix_picture_by_picture_is_pixmix_in_groups(
    method: PixMix, height: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, pictures = _pictures(60, height, width), _pictures(60, height, width, seed=5)
    _has_powers(images)
    fast, plain = _both_ways(monkeypatch, lambda: method.augment(images, pictures, _generator()))
    assert fast.isfinite().all()
    assert torch.equal(fast, plain)


@compiled
def test_large_pictures_and_empty_batches_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    images, pictures = _pictures(8, 224, 224), _pictures(8, 224, 224, seed=5)
    _has_powers(images)
    method = PixMix(beta=4, severity=1)
    for some in (images, images[:0]):
        fast, plain = _both_ways(monkeypatch, lambda s=some: method.augment(s, pictures[: len(s)], _generator()))  # type: ignore[misc]
        assert torch.equal(fast, plain)


@compiled
@pytest.mark.parametrize(
    "functions",
    [
        pytest.param(("vmsLog2", "no_such_function"), id="missing"),
        pytest.param(("vmsLog10", "Sleef_exp2f8_u10"), id="another logarithm"),
        pytest.param(("vmsLog2", "Sleef_expf8_u10"), id="another power"),
    ],
)
def test_powers_that_are_not_torchs_are_not_used(functions: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    images, pictures = _pictures(40, 8, 8), _pictures(40, 8, 8, seed=5)
    _has_powers(images)
    expected = PixMix().augment(images, pictures, _generator())
    monkeypatch.setattr(native, "POWERS", functions)
    blending._has_powers_of_torch.cache_clear()
    try:
        assert not blending.has_compiled_powers(images)
        assert torch.equal(PixMix().augment(images, pictures, _generator()), expected)
    finally:
        monkeypatch.undo()
        blending._has_powers_of_torch.cache_clear()


def test_a_power_is_the_same_wherever_it_stands() -> None:
    values = torch.rand(10_007, generator=_generator()) * 40 - 30
    expected, parts = values.clone(), [part.clone() for part in torch.split(values, 37)]
    blending._exp2_(expected)
    for part in parts:
        blending._exp2_(part)
    assert torch.equal(torch.cat(parts), expected)
    torch.testing.assert_close(expected, torch.from_numpy(np.exp2(values.numpy())), rtol=1e-6, atol=0)


def _loaded_afresh(monkeypatch: pytest.MonkeyPatch, cache: Path) -> bool:
    """Whether the operations are there for a process that starts with this cache folder."""
    monkeypatch.setenv("PIXMIX_RAY_CACHE", str(cache))
    native._loaded.cache_clear()
    try:
        return native.library() is not None
    finally:
        native._loaded.cache_clear()


def test_without_a_compiler_pytorch_does_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with caplog.at_level(logging.INFO):
        assert not _loaded_afresh(monkeypatch, tmp_path)
    assert "no C compiler no-such-compiler" in caplog.text


@compiled
def test_a_compiler_that_fails_leaves_nothing_and_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CC", f"{sys.executable} -c 'import sys; sys.exit(\"out of order\")'")
    assert not _loaded_afresh(monkeypatch, tmp_path)
    assert "out of order" in caplog.text
    assert not list(tmp_path.glob("*.so")) and not list(tmp_path.glob("*.part"))


@compiled
def test_a_cache_that_cannot_be_written_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    assert not _loaded_afresh(monkeypatch, tmp_path / "file")
    assert "PyTorch alone" in caplog.text


@compiled
def test_processes_that_start_together_compile_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    compiler = tmp_path / "compiler"
    compiler.write_text(f'#!/bin/sh\necho call >> {calls}\nexec cc "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setenv("PIXMIX_RAY_CACHE", str(tmp_path / "cache"))
    code = "from pixmix_ray.transforms import native; assert native.library() is not None"
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: subprocess.run([sys.executable, "-c", code], check=False), range(3)))
    assert [process.returncode for process in done] == [0, 0, 0]
    assert calls.read_text().split() == ["call"]
    assert len(list((tmp_path / "cache").glob("kernels-*.so"))) == 1
