"""What fits on the nodes of a cluster: by hand."""

import pytest

from pixmix_ray.experiment.resources import Resources, Share
from pixmix_ray.orchestration.nodes import Node, bundle, fitting, lacking, total_fitting, trials_at_once

H100 = {"CPU": 16.0, "GPU": 2.0, "memory": 64e9, "accelerator_type:H100": 1.0, "licence": 3.0}


def node(labels: dict[str, str] | None = None, **resources: float) -> Node:
    return Node(node_id="a", resources=resources, labels=labels or {})


def test_a_bundle_names_what_is_taken_as_ray_does() -> None:
    whole = Share(cpus=2, gpus=0.5, memory="4GB", accelerator_type="H100", custom={"licence": 1}, labels={"zone": "b"})
    expected = {"CPU": 2, "GPU": 0.5, "memory": 4_000_000_000, "accelerator_type:H100": 0.001, "licence": 1}
    assert bundle(whole) == expected  # labels are no amount: they go into Ray's selector
    assert bundle(Share(cpus=0)) == {}


@pytest.mark.parametrize(
    ("share", "count"),
    [
        (Share(cpus=4), 4),
        (Share(cpus=0.1), 160),  # not 159: sixteen divided by a tenth is rounded
        (Share(cpus=1, gpus=0.2), 10),
        (Share(cpus=1, memory=int(20e9)), 3),
        (Share(cpus=1, gpus=1, accelerator_type="H100"), 2),  # the kind is no amount
        (Share(cpus=1, accelerator_type="A100"), 0),
        (Share(cpus=1, custom={"licence": 2}), 1),
        (Share(cpus=1, custom={"disk": 1}), 0),
        (Share(cpus=8, labels={"zone": "b"}), 2),
        (Share(cpus=8, labels={"zone": "c"}), 0),
        (Share(cpus=17), 0),
    ],
)
def test_as_many_shares_fit_as_the_scarcest_resource_holds(share: Share, count: int) -> None:
    found = Node(node_id="a", resources=H100, labels={"zone": "b"})
    assert fitting(found, share) == count
    assert total_fitting([found, found], share) == 2 * count


def test_beside_another_share_less_fits() -> None:
    assert fitting(node(CPU=4, GPU=1), Share(cpus=1), beside=Share(cpus=2, gpus=1)) == 2
    assert fitting(node(CPU=1), Share(cpus=1), beside=Share(cpus=2)) == 0


Pair = tuple[float, float]


@pytest.mark.parametrize(
    ("nodes", "trial", "evaluation", "expected"),
    [  # (CPUs, GPUs); by hand: all trials that fit, less those that one evaluation displaces, but at least 1
        ([(2, 0)], (1, 0), (1, 0), 1),
        ([(2, 0)], (0.75, 0), (0.5, 0), 2),
        ([(1, 0)], (1, 0), (1, 0), 1),
        ([(64, 8)], (4, 1), (2, 0.5), 7),
        ([(64, 8)], (4, 0.5), (2, 1), 14),
        ([(8, 8)], (4, 1), (0, 0), 2),
        ([(4, 0), (4, 0)], (3, 0), (1, 0), 2),
        ([(4, 0), (6, 0)], (4, 0), (2, 0), 2),
        ([(16, 4), (8, 0)], (4, 1), (2, 0), 4),
    ],
)
def test_one_evaluation_share_stays_free(nodes: list[Pair], trial: Pair, evaluation: Pair, expected: int) -> None:
    resources = Resources(
        trial=Share(cpus=trial[0], gpus=trial[1]), evaluation=Share(cpus=evaluation[0], gpus=evaluation[1])
    )
    assert trials_at_once([node(CPU=cpus, GPU=gpus) for cpus, gpus in nodes], resources) == expected


@pytest.mark.parametrize(
    ("nodes", "resources", "told"),
    [
        (
            [node(CPU=2)],
            Resources(trial=Share(gpus=1)),
            "a trial asks for 1 CPUs and 1 GPUs, and the largest node has 2 CPUs and 0 GPUs: "
            "lower resources.trial, such as --set resources.trial.gpus=0",
        ),
        (
            [node(CPU=2)],
            Resources(trial=Share(cpus=64, gpus=1)),
            "a trial asks for 64 CPUs and 1 GPUs, and the largest node has 2 CPUs and 0 GPUs: "
            "lower resources.trial, such as --set resources.trial.gpus=0 --set resources.trial.cpus=2",
        ),
        (
            [node(CPU=2, GPU=1), node(CPU=8)],
            Resources(trial=Share(cpus=64)),
            "a trial asks for 64 CPUs, and the largest node has 8 CPUs and 0 GPUs: "
            "lower resources.trial, such as --set resources.trial.cpus=8",
        ),
        (
            [node(CPU=0)],
            Resources(trial=Share(cpus=1)),
            "a trial asks for 1 CPUs, and the largest node has 0 CPUs and 0 GPUs",
        ),
        ([node(CPU=1), node(CPU=1)], Resources(trial=Share(cpus=2)), "a trial asks for 2 CPUs, and "),  # not one of two
        (
            [node(CPU=2)],
            Resources(evaluation=Share(cpus=3)),
            "an evaluation asks for 3 CPUs, and the largest node has 2 CPUs and 0 GPUs: "
            "lower resources.evaluation, such as --set resources.evaluation.cpus=2",
        ),
        (
            [node(CPU=2)],
            Resources(trial=Share(memory=10**9)),
            "a trial asks for 1 CPUs and 1 GB of memory, and ",
        ),
        (
            [node(CPU=2)],
            Resources(trial=Share(labels={"zone": "b"})),
            "a trial asks for 1 CPUs and the label zone=b, and ",
        ),
        (
            [Node(node_id="a", resources=H100)],
            Resources(trial=Share(accelerator_type="A100")),
            "a trial asks for 1 CPUs and a GPU of the type A100, and ",
        ),
        (
            [node(CPU=3), node(CPU=8)],
            Resources(trial=Share(cpus=12, workers=4)),
            "a trial asks for 4 workers of 3 CPUs each, and the nodes hold 3: lower resources.trial",
        ),
        ([], Resources(), "a trial asks for 1 CPUs, and the cluster has no nodes: wait for one, or start Ray on one"),
    ],
)
def test_what_no_node_holds_is_told_with_what_to_set(nodes: list[Node], resources: Resources, told: str) -> None:
    assert lacking(nodes, resources).startswith(told)


def test_the_workers_of_a_trial_may_be_on_several_nodes() -> None:
    eight = Resources(trial=Share(gpus=8, cpus=8), evaluation=Share(cpus=1))
    four_each = [node(CPU=8, GPU=4), node(CPU=8, GPU=4)]
    assert lacking(four_each, eight) == "" and trials_at_once(four_each, eight) == 1
    assert trials_at_once(2 * four_each, eight) == 2
    assert lacking(four_each[:1], eight) != ""


def test_nothing_lacks_where_a_trial_fits_on_one_node_and_an_evaluation_on_another() -> None:
    assert lacking([node(CPU=1, GPU=1), node(CPU=8)], Resources(trial=Share(gpus=1), evaluation=Share(cpus=4))) == ""
