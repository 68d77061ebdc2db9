"""Escape-time fractals: counts against a plain loop and known facts, smooth counts, places near the boundary."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pixmix_ray.mixing_sets.fractals.escape_time import (
    CROSS,
    FAR,
    JULIA,
    MANDELBROT,
    NEAR,
    NEWTON,
    NUM_STEPS,
    PHOENIX,
    PLAIN,
    RING,
    SHIP,
    Escapes,
    counted,
    render_escapes,
)
from pixmix_ray.mixing_sets.fractals.fractals import BOXES, LONGEST, draw_escapes

Doubles = NDArray[np.float64]


@pytest.fixture(scope="module")
def some() -> Escapes:
    return draw_escapes(0, [0], np.arange(60))


def one(kind: int, degree: int = 2, **changes: Any) -> Escapes:
    """One picture of the whole set."""
    plain = Escapes(
        kind=np.array([kind]),
        degree=np.array([degree]),
        trap=np.array([PLAIN]),
        constant=np.array([[-0.4, 0.6]]),
        memory=np.array([[1.0, 0.2]]) if kind == NEWTON else np.array([[-0.5, 0.1]]),
        middle=np.zeros((1, 2)),
        width=np.array([3.0]),
        angle=np.zeros(1),
        palette=np.full((1, 3, 3), 0.3, np.float32),
        tint=np.ones((1, 3), np.float32),
        tone=np.full((1, 6), 0.5, np.float32),
    )
    return replace(plain, **changes)


def plain_loop(escapes: Escapes, point: complex) -> tuple[int, complex]:
    """How many whole steps a point takes, and where it is then, by Python's numbers: a second implementation."""
    kind, degree = int(escapes.kind[0]), int(escapes.degree[0])
    constant, memory = complex(*escapes.constant[0]), complex(*escapes.memory[0])
    z, last, c = (0j, 0j, point) if kind in (MANDELBROT, SHIP) else (point, 0j, constant)
    for step in range(NUM_STEPS):
        if kind == SHIP:
            new = complex(abs(z.real), abs(z.imag)) ** degree + c
        elif kind == PHOENIX:
            new = z**degree + c + memory * last
        elif kind == NEWTON:
            new = z - memory * (z**degree - 1) / (degree * z ** (degree - 1)) + c
        else:
            new = z**degree + c
        last, z = z, new
        if abs(z - last) <= NEAR if kind == NEWTON else abs(z) > FAR:
            return step, z
    return NUM_STEPS, z


@pytest.mark.parametrize(
    ("kind", "degree"),
    [(MANDELBROT, 2), (MANDELBROT, 5), (JULIA, 2), (JULIA, 3), (SHIP, 2), (PHOENIX, 2), (NEWTON, 3), (NEWTON, 5)],
)
def test_counts_are_those_of_a_plain_loop(kind: int, degree: int) -> None:
    escapes = one(kind, degree)
    points = np.random.default_rng(0).uniform(-1.5, 1.5, (1, 300, 2))
    counts = counted(escapes, points)
    for index, (x, y) in enumerate(points[0]):
        step, end = plain_loop(escapes, complex(x, y))
        if step == NUM_STEPS:
            assert counts.steps[0, index] == NUM_STEPS
        else:  # a fraction of the last step is added, up to one
            assert step - 0.01 <= counts.steps[0, index] <= step + 1.01
            expected = np.angle(end) / (2 * np.pi) % 1
            assert abs((counts.end[0, index] - expected + 0.5) % 1 - 0.5) < 1e-3


def test_known_points_of_the_mandelbrot_set() -> None:
    # Known: 0, -1 and i belong to the set, 1 and -2.1 do not; its area is 1.5066 (Ewing and Schober, 1992, and later).
    points = np.array([[[0, 0], [-1, 0], [0, 1], [1, 0], [-2.1, 0]]], dtype=np.float64)
    assert (counted(one(MANDELBROT), points).steps[0] == NUM_STEPS).tolist() == [True, True, True, False, False]
    x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(-2.2, 0.8, 300), np.linspace(-1.5, 1.5, 300)))
    steps = counted(one(MANDELBROT), np.stack([x, y], axis=-1)[None]).steps
    assert 9 * (steps == NUM_STEPS).mean() == pytest.approx(1.5066, abs=0.05)


@pytest.mark.parametrize("kind", [MANDELBROT, JULIA, SHIP, PHOENIX, NEWTON])
def test_counts_are_smooth_where_whole_steps_jump(kind: int) -> None:
    escapes = one(kind, 3 if kind == NEWTON else 2, constant=np.zeros((1, 2)), memory=np.array([[0.9, 0.0]]))
    line = np.linspace(1, 3, 4000)
    points = np.stack([line, np.full(len(line), 0.9)], axis=-1)[None]
    steps = counted(escapes, points).steps[0]
    assert np.ptp(steps) > 1 and np.abs(np.diff(steps)).max() < 0.02


def test_traps_measure_how_near_the_numbers_came() -> None:
    points = np.random.default_rng(1).uniform(-1, 1, (1, 50, 2))
    distances: dict[int, Callable[[complex], float]] = {
        RING: lambda z: abs(abs(z) ** 2 - 0.25),
        CROSS: lambda z: min(abs(z.real), abs(z.imag)),
    }
    for trap, distance in distances.items():
        counts = counted(one(JULIA, trap=np.array([trap])), points)
        for index, (x, y) in enumerate(points[0]):
            z, nearest = complex(x, y), 9.0
            for _ in range(
                int(np.floor(counts.steps[0, index] + 1e-9)) + 1 if counts.steps[0, index] < NUM_STEPS else NUM_STEPS
            ):
                z = z**2 + complex(-0.4, 0.6)
                nearest = min(nearest, distance(z))
            assert counts.trap[0, index] == pytest.approx(nearest, abs=1e-5)


def test_a_picture_does_not_depend_on_which_others_are_rendered_with_it(some: Escapes) -> None:
    together = render_escapes(some[np.arange(12)], 32)
    alone = np.concatenate([render_escapes(some[np.array([index])], 32) for index in range(12)])
    assert np.abs(together - alone).max() < 1e-4


def test_another_size_shows_the_same_picture(some: Escapes) -> None:
    small, large = render_escapes(some, 32), render_escapes(some, 64).reshape(-1, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    alike = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(small, large, strict=True)]
    strange = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(small, np.roll(large, 1, axis=0), strict=True)]
    assert np.median(alike) > 0.7 > 0.4 > np.median(strange)


def test_candidates_are_functions_of_seed_attempt_and_index(some: Escapes) -> None:
    again = draw_escapes(0, [3, 0], np.array([7, 5]))  # attempt after attempt
    assert np.array_equal(again.middle[2:], some.middle[[7, 5]])
    assert np.array_equal(again.constant[2:], some.constant[[7, 5]])
    assert not np.array_equal(again.middle[:2], some.middle[[7, 5]])
    assert not np.array_equal(draw_escapes(1, [0], np.array([7])).palette[0], some.palette[7])


def test_no_indices_are_no_pictures() -> None:
    none = draw_escapes(0, [0], np.arange(0))
    assert len(none) == 0 and render_escapes(none, 16).shape == (0, 16, 16, 3)


def test_every_kind_occurs_and_pictures_are_colours(some: Escapes) -> None:
    assert set(some.kind.tolist()) == set(BOXES)
    images = render_escapes(some, 16)
    assert images.dtype == np.float32 and images.min() >= 0 and images.max() <= 1 and np.isfinite(images).all()


def test_the_boundary_crosses_most_pictures(some: Escapes) -> None:
    """Measured, not known: near the boundary some points take long, others do not."""
    middles = counted(some, some.middle[:, None]).steps[:, 0]
    line = np.linspace(-0.5, 0.5, 16)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(1, -1, 2) * some.width[:, None, None]
    steps = counted(some, some.middle[:, None] + grid).steps
    assert np.median(steps.max(axis=1) - steps.min(axis=1)) > 15
    assert (middles < LONGEST).mean() > 0.7 and some.width.min() >= 1e-8


def test_settings_are_not_changed_by_rendering(some: Escapes) -> None:
    before = [some.middle.copy(), some.constant.copy(), some.memory.copy()]
    render_escapes(some, 16)
    after = [some.middle, some.constant, some.memory]
    assert all(np.array_equal(old, new) for old, new in zip(before, after, strict=True))
