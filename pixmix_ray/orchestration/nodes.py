"""What fits on the nodes of a cluster: arithmetic, without Ray."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pixmix_ray.experiment.resources import Resources, Share

ROUNDING = 1e-9  # ten tenths of a GPU are a GPU
ON_A_NODE_OF_THE_KIND = 0.001  # of Ray's resource accelerator_type:NAME, of which a node has one


@dataclass(frozen=True, kw_only=True)
class Node:
    """A living node: Ray's id of it, what it has by Ray's names of resources, its labels, and its host's name."""

    node_id: str
    resources: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)
    host: str = "unknown host"


def bundle(share: Share) -> dict[str, float]:
    """A share by Ray's names of resources, without those of which it takes nothing.

    >>> bundle(Share(cpus=2, accelerator_type="H100"))
    {'CPU': 2.0, 'accelerator_type:H100': 0.001}
    """
    wanted: dict[str, float] = {"CPU": share.cpus, "GPU": share.gpus, "memory": share.memory or 0, **share.custom}
    if share.accelerator_type is not None:
        wanted[f"accelerator_type:{share.accelerator_type}"] = ON_A_NODE_OF_THE_KIND
    return {name: amount for name, amount in wanted.items() if amount > 0}


def described(share: Share) -> str:
    """A share in words.

    >>> described(Share(cpus=1, gpus=0.25, memory=4_000_000_000, accelerator_type="H100"))
    '1 CPUs and 0.25 GPUs and 4 GB of memory and a GPU of the type H100'
    """
    parts = [f"{share.cpus:g} CPUs"] if share.cpus else []
    parts += [f"{share.gpus:g} GPUs"] if share.gpus else []
    parts += [f"{share.memory / 1e9:g} GB of memory"] if share.memory else []
    parts += [f"{amount:g} of {name}" for name, amount in share.custom.items()]
    parts += [f"a GPU of the type {share.accelerator_type}"] if share.accelerator_type else []
    parts += [f"the label {name}={value}" for name, value in share.labels.items()]
    return " and ".join(parts) or "nothing"


def fitting(node: Node, share: Share, beside: Share | None = None) -> int:
    """How many shares an idle node holds, beside another one.

    >>> fitting(Node(node_id="a", resources={"CPU": 2}), Share(cpus=0.75), beside=Share(cpus=0.5))
    2
    """
    if any(node.labels.get(name) != value for name, value in share.labels.items()):
        return 0
    taken = {} if beside is None else bundle(beside)
    counts = [
        max(0, int((node.resources.get(name, 0) - taken.get(name, 0)) / amount + ROUNDING))
        for name, amount in bundle(share).items()
        if not name.startswith("accelerator_type:") or node.resources.get(name, 0) < amount
    ]
    return min(counts, default=1)


def total_fitting(nodes: Iterable[Node], share: Share) -> int:
    """How many shares the nodes hold when nothing else runs; the workers of one may be on several nodes.

    >>> total_fitting([Node(node_id=name, resources={"CPU": 3}) for name in "ab"], Share(cpus=4, workers=4))
    1
    """
    worker = share.of_worker()
    return sum(fitting(node, worker) for node in nodes) // share.num_workers


def trials_at_once(nodes: Sequence[Node], resources: Resources) -> int:
    """How many trials may train at once so that one evaluation's share stays free somewhere, but at least one.

    >>> trials_at_once([Node(node_id="a", resources={"CPU": 2})],
    ...                Resources(trial=Share(cpus=0.75), evaluation=Share(cpus=0.5)))
    2
    """
    worker = resources.trial.of_worker()
    counts = [fitting(node, worker) for node in nodes]
    lost = [
        count - fitting(node, worker, beside=resources.evaluation)
        for node, count in zip(nodes, counts, strict=True)
        if fitting(node, resources.evaluation)
    ]
    return max(1, (sum(counts) - min(lost, default=0)) // resources.trial.num_workers)


def lacking(nodes: Sequence[Node], resources: Resources) -> str:
    """What the nodes cannot hold, in words; "" if a trial fits and an evaluation."""
    for what, share in (("trial", resources.trial), ("evaluation", resources.evaluation)):
        if total_fitting(nodes, share) == 0:
            article = "an" if what == "evaluation" else "a"
            if share.num_workers > 1:
                count = sum(fitting(node, share.of_worker()) for node in nodes)
                return (
                    f"a trial asks for {share.num_workers} workers of {described(share.of_worker())} each, and the "
                    f"nodes hold {count}: lower resources.trial"
                )
            return f"{article} {what} asks for {described(share)}, and {_largest(nodes, what, share)}"
    return ""


def _largest(nodes: Sequence[Node], what: str, share: Share) -> str:
    if not nodes:
        return "the cluster has no nodes: wait for one, or start Ray on one"
    # what the share asks for comes first: the way out is about the node that comes closest
    order = ("GPU", "CPU") if share.gpus else ("CPU", "GPU")
    largest = max(nodes, key=lambda node: tuple(node.resources.get(name, 0) for name in order))
    cpus, gpus = (largest.resources.get(name, 0) for name in ("CPU", "GPU"))
    found = f"the largest node has {cpus:g} CPUs and {gpus:g} GPUs: lower resources.{what}"
    hints = [f"--set resources.{what}.gpus={gpus:g}"] if share.gpus > gpus else []
    hints += [f"--set resources.{what}.cpus={cpus:g}"] if share.cpus > cpus else []
    return f"{found}, such as {' '.join(hints)}" if hints else found
