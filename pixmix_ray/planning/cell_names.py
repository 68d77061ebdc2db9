"""How cells are called: by their checkpoints, which only trials that are done have, and what is there already."""

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from pixmix_ray.experiment.external import External, Source
from pixmix_ray.experiment.trial import BenchmarkRun, hash_of_test_set
from pixmix_ray.storage.store import Store, trial_file

REQUESTS = 32  # at the same time, to object storage


def cell_names(store: Store, sources: Iterable[Source], runs: Sequence[BenchmarkRun]) -> dict[tuple[str, str], str]:
    """The names of the cells (CHECKPOINT/NAME-KEY) of checkpoints that are there, by id and key of the benchmark.

    Raises:
        DataError: the files of a test set are missing or broken.
        ResultsError: the results cannot be read.
    """
    by_id = {source.id: source for source in sources}
    checkpoints = dict(checkpoint_ids(store, [id_ for id_, of in by_id.items() if not isinstance(of, External)]))
    checkpoints |= {id_: of.checkpoint_id for id_, of in by_id.items() if isinstance(of, External)}
    test_sets: dict[int, str] = {}  # by the data set's object, which trials share: its files are looked at once
    names: dict[tuple[str, str], str] = {}
    for trial_id, checkpoint in checkpoints.items():
        dataset = by_id[trial_id].dataset
        if id(dataset) not in test_sets:
            test_sets[id(dataset)] = hash_of_test_set(dataset)
        for run in runs:
            names[trial_id, run.key] = f"{trial_id}/{run.cell_key(test_sets[id(dataset)], checkpoint)}"
    return names


def checkpoint_ids(store: Store, trial_ids: Sequence[str]) -> Mapping[str, str]:
    """The hash of the weights of each trial that is done; trials whose file cannot be read are left out.

    The hash in the file itself is not looked at: where it is wrong, evaluating the trial finds that.
    """

    def read(trial_id: str) -> str | None:
        try:
            found = json.loads(store.read(trial_file(trial_id, "done.json")) or b"{}")
        except ValueError:
            return None
        checkpoint = found.get("checkpoint_id") if isinstance(found, dict) else None
        return checkpoint if isinstance(checkpoint, str) else None

    if store.is_local:
        ids = list(map(read, trial_ids))
    else:
        with ThreadPoolExecutor(REQUESTS) as pool:
            ids = list(pool.map(read, trial_ids))
    return {trial_id: found for trial_id, found in zip(trial_ids, ids, strict=True) if found is not None}
