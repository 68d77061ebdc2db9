"""How long the analysis of a sweep takes: the bootstrap of 100 configurations, and a front of 100,000.

    python -m experiments.speed.certainty [ENTRIES]

Targets: 1,000 draws of 100 configurations in 5 objectives on 10,000 pictures in 0.5 s; the front of 100,000 entries in
8 objectives in 1 s. Then the certainty of 10,000 entries, and of as many as are named: `certainty 100000`.
"""

import resource
import sys
import time

import numpy as np
import pandas as pd

from pixmix_ray.analysis.certainty import Spread, bootstrap
from pixmix_ray.analysis.fronts import is_on_front
from pixmix_ray.analysis.pareto import dominance

OBJECTIVES = ("clean.error", "corruptions.mce", "adversaries.error", "consistency.mfr", "anomalies.auroc")


def main() -> None:
    """Print wall and CPU seconds of both."""
    generator = np.random.default_rng(0)
    n, m, pictures = 100, len(OBJECTIVES), 10_000
    effects = ((generator.random((pictures, n, m), dtype=np.float32) - 0.5) / pictures).astype(np.float32)
    values = generator.uniform(0.2, 0.3, (n, m))
    spread = Spread(
        values=values,
        strata={"test": [(slice(None), effects)]},
        seeds=[values[row : row + 1] for row in range(n)],
        others=np.full((n, m), np.nan),
        groups=np.zeros(n, dtype=np.int64),
    )
    for _ in range(2):
        wall, cpu = time.perf_counter(), time.process_time()
        found = bootstrap(spread, OBJECTIVES)
        drawn = time.perf_counter()
        shown = f"on the front {np.nansum(found.on_front):.1f}, {int(found.intervals.size / 2)} intervals"
        fronts = time.perf_counter()
        best = [int(row) for row in np.argmin(values * found.signs, axis=0)]
        real = sum(int(found.real(column, row, slice(None)).sum()) for column, row in enumerate(best))
        total, used = time.perf_counter() - wall, time.process_time() - cpu
        parts = f"draws {drawn - wall:.2f}, pairs and intervals {fronts - drawn:.2f}, {real} told from the best"
        print(f"bootstrap: {total:.2f} s, {used:.2f} CPU s ({parts}; {shown})")  # noqa: T201
    costs = generator.random((100_000, 8))
    wall, cpu = time.perf_counter(), time.process_time()
    size = int(is_on_front(costs).sum())
    print(f"front: {time.perf_counter() - wall:.2f} s, {time.process_time() - cpu:.2f} CPU s ({size} on it)")  # noqa: T201
    large(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)


def large(n: int) -> None:
    """Print CPU seconds and memory of the front of n entries in five objectives, and of its certainty."""
    values = np.random.default_rng(0).uniform(0.2, 0.3, (n, len(OBJECTIVES)))
    spread = Spread(
        values=values,
        strata={},
        seeds=[values[row : row + 1] for row in range(n)],
        others=np.full(values.shape, 0.004),
        groups=np.zeros(n, dtype=np.int64),
    )
    wide = pd.DataFrame(values, columns=list(OBJECTIVES))
    cpu = time.process_time()
    found, judged = dominance(wide, OBJECTIVES), bootstrap(spread, OBJECTIVES)
    told = f"{found['on_front'].sum()} on the front, {np.nansum(judged.on_front):.1f} in a draw"
    real = int(judged.real(0, 0, slice(None)).sum())
    used, peak = time.process_time() - cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{n:,} entries: {used:.1f} CPU s, {peak:.2f} GB ({told}; one really better than {real})")  # noqa: T201


if __name__ == "__main__":
    main()
