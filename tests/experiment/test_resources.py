"""What a trial and an evaluation take of the cluster, against the units worked by hand."""

from pathlib import Path

import pytest

from pixmix_ray.errors import RequestError
from pixmix_ray.experiment.axes import axes_of
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.resources import Resources, Share


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (4096, 4096),
        ("4096B", 4096),
        ("4GB", 4_000_000_000),
        ("1.5 MB", 1_500_000),
        ("2kB", 2000),
        ("2KiB", 2048),
        ("4GiB", 4 * 2**30),
        ("0.5 TiB", 2**39),
    ],
)
def test_memory_is_a_number_of_bytes_or_a_text_with_a_unit(given: object, expected: int) -> None:
    assert Share.read({"memory": given}, "share").memory == expected


def test_a_share_without_keys_is_one_cpu_and_nothing_else() -> None:
    assert Resources() == Resources(trial=Share(cpus=1, gpus=0), evaluation=Share(cpus=1, gpus=0))
    share = Share()
    assert (share.memory, share.accelerator_type, share.labels, share.custom) == (None, None, {}, {})


def test_all_keys_are_read_from_the_experiment_file(experiment: Path) -> None:
    text = (
        "resources.trial={cpus: 1.5, gpus: 0.25, memory: 4GB, accelerator_type: H100, "
        "labels: {market-type: spot}, custom: {licence: 2}}"
    )
    assert read_experiment(experiment, [text]).resources.trial == Share(
        cpus=1.5,
        gpus=0.25,
        memory=4_000_000_000,
        accelerator_type="H100",
        labels={"market-type": "spot"},
        custom={"licence": 2},
    )


def test_resources_are_no_part_of_a_trials_identity(experiment: Path) -> None:
    (plain,) = read_experiment(experiment).trials()
    changed = ["resources.trial={cpus: 2.5, gpus: 1, memory: 1GB, accelerator_type: A100}"]
    (same,) = read_experiment(experiment, changed).trials()
    assert same.id == plain.id


DEPTHS = ["model={name: wide_resnet, depth: [10, 16], width: 1}", "seeds=[0, 1]"]
TWO_SHARES = [*DEPTHS, "resources.trial={gpus: [0, 1], cpus: 2}"]


@pytest.mark.parametrize(
    "paired",
    [
        "zip=[model.depth, resources.trial.gpus]",
        "exclude=[{model.depth: 10, resources.trial.gpus: 1}, {model.depth: 16, resources.trial.gpus: 0}]",
    ],
)
def test_shares_are_an_axis_where_they_are_paired_with_what_tells_trials_apart(experiment: Path, paired: str) -> None:
    read = read_experiment(experiment, [*TWO_SHARES, paired])
    shares = {trial.label: read.resources.shares[trial.share] for trial in read.trials()}
    small, large = Share(cpus=2, gpus=0), Share(cpus=2, gpus=1)
    names = [f"baseline wrn_{depth}_1 seed {seed}" for depth in (10, 16) for seed in (0, 1)]
    assert shares == dict(zip(names, [small, small, large, large], strict=True))
    assert read.resources.trial == large
    alone = read_experiment(experiment, DEPTHS).trials()
    assert [trial.id for trial in read.trials()] == [trial.id for trial in alone]
    assert axes_of(read.points())["resources.trial.gpus"] == ["0", "1"]


def test_shares_alone_are_no_axis(experiment: Path) -> None:
    expected = (
        r"^resources.trial.gpus = \[0, 1\] gives a trial several shares, .* zip: \[model.depth, resources.trial.gpus"
    )
    with pytest.raises(RequestError, match=expected):
        read_experiment(experiment, TWO_SHARES).trials()


def test_where_there_are_gpus_all_of_several_shares_get_some(experiment: Path) -> None:
    found = read_experiment(experiment, ["resources.trial.cpus=[1, 2, 2]"]).resources.with_gpus()
    assert [(share.cpus, share.gpus) for share in found.shares] == [(2, 0.75), (1, 0.75)]


@pytest.mark.parametrize(
    ("share", "message"),
    [
        ("{gpus: 1.5}", r"gpus = 1.5: above 1 it must be a whole number, one GPU for each worker"),
        ("{gpus: 1, workers: 2}", r"workers = 2, but gpus = 1: give each worker one GPU, or leave workers out"),
        ("{workers: 0}", r"resources.trial.workers = 0"),
        ("{cpus: -1}", r"resources.trial.cpus = -1"),
        ("{memory: 4 apples}", r"memory = '4 apples': give a number of bytes, or a text such as 4GB"),
        ("{memory: 4iB}", r"memory = '4iB'"),
        ("{memory: 0}", r"memory = 0"),
        ("{custom: {licence: 0}}", r"licence = 0"),
        ("{custom: {GPU: 1}}", r"give GPU by its own key, gpus"),
        ("{labels: {zone: ''}}", r"labels.zone"),
        ("{accelerator_type: ''}", r"accelerator_type = ''"),
        ("{accelerators: H100}", r"unknown key .*'accelerators'"),
    ],
)
def test_a_share_that_cannot_be_is_refused_in_one_line(experiment: Path, share: str, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        read_experiment(experiment, [f"resources.trial={share}"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("share", "told"), [("{gpus: 2}", "gpus = 2"), ("{workers: 3}", "workers = 3")])
def test_one_process_evaluates(experiment: Path, share: str, told: str) -> None:
    with pytest.raises(RequestError, match=f"{told}, but one process evaluates: give 1 or a fraction of a GPU"):
        read_experiment(experiment, [f"resources.evaluation={share}"])


@pytest.mark.parametrize(
    ("share", "workers", "each"),
    [
        (Share(gpus=8, cpus=16, memory=800), 8, Share(gpus=1, cpus=2, memory=100)),
        (Share(gpus=0.5), 1, Share(gpus=0.5)),
        (Share(cpus=3, workers=2, custom={"licence": 1}), 2, Share(cpus=1.5, custom={"licence": 0.5})),
    ],
)
def test_a_share_is_divided_among_its_workers(share: Share, workers: int, each: Share) -> None:
    assert share.num_workers == workers
    assert share.of_worker().model_copy(update={"workers": None}) == each


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["resources.trial={workers: 3}", "training.batch_size=128"],
            r"resources.trial has 3 workers, which do not divide training.batch_size = 128: use 2 workers, or a batch "
            r"size of 126$",
        ),
        (["resources.trial={workers: 2}", "methods=[ant]"], r"ant keeps a state during training .*workers=1"),
    ],
)
def test_a_trial_that_its_workers_cannot_share_is_refused(experiment: Path, settings: list[str], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        read_experiment(experiment, settings).trials()
    assert read_experiment(experiment, ["resources.trial={workers: 4}"]).trials()


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        ("{}", (0.75, 0.25)),
        ("{trial: {cpus: 2}, evaluation: {cpus: 2}}", (0.75, 0.25)),
        ("{trial: {gpus: 0}}", (0, 0)),
        ("{trial: {gpus: 1}}", (1, 0)),
        ("{evaluation: {gpus: 0.5}}", (0, 0.5)),
        ("{trial: {workers: 2}}", (0, 0)),
    ],
)
def test_where_there_are_gpus_they_are_used_unless_it_is_said(
    experiment: Path, text: str, gpus: tuple[float, float]
) -> None:
    found = read_experiment(experiment, [f"resources={text}"]).resources.with_gpus()
    assert (found.trial.gpus, found.evaluation.gpus) == gpus
