"""Whether what an experiment wants fits this machine: host memory, device memory, and disk for the cache.

What is known to be too much is refused before anything is decoded or trained, with the numbers. A network is run once
over one batch as shapes alone (torch's meta device), which counts what training must keep at least: weights, gradients,
momentum, and what the backward pass needs of the forward pass. It is a lower bound: a method's own pictures, and what
the kernels use for themselves, come on top.
"""

import shutil
from collections.abc import Iterable, Iterator
from math import ceil

import psutil
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixmix_ray.cache import cache_folder
from pixmix_ray.datasets import Dataset
from pixmix_ray.errors import ProblemsError, RequestError
from pixmix_ray.experiment.resources import Share
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.planning.plan import Plan

COPIES = 2  # of resident pictures on the host while they are laid out for the device
HALF_PRECISION = 0.5  # of the bytes of float32: what is kept of a forward pass in bfloat16, at least


def check_fits(plan: Plan) -> None:
    """Return if what is left of a plan fits this machine, as far as can be told.

    Raises:
        RequestError: it does not; all that is too large is named.
    """
    trials, shares = plan.trials_to_run(), plan.experiment.resources.shares
    memory = psutil.virtual_memory().total
    problems = [*_disk_problems({id(t.dataset): t.dataset.settings for t in trials}.values())]
    different: dict[str, Trial] = {}
    for trial in trials:
        different.setdefault(f"{trial.dataset.identity()}{trial.model.identity()}{trial.training.identity()}", trial)
    for trial in different.values():
        problems += [*_host_problems(trial, memory), *_device_problems(trial, shares[trial.share], memory)]
    found = list({str(problem): problem for problem in problems}.values())
    if found:
        raise found[0] if len(found) == 1 else ProblemsError("the plan", found)


def training_bytes(network: nn.Module, batch_size: int, size: int, *, is_half: bool = False) -> int:
    """What a training step keeps at least, in bytes.

    Args:
        network: on the meta device.
        batch_size: pictures.
        size: their side in pixels.
        is_half: whether the forward pass is in bfloat16.
    """
    own = {id(tensor) for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if id(tensor) not in own and tensor._base is None:  # views share what they are of
            kept[id(tensor)] = tensor
        return tensor

    images = torch.empty(batch_size, 3, size, size, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = F.cross_entropy(network(images), torch.zeros(batch_size, dtype=torch.int64, device="meta"))
    passed = sum(tensor.numel() * tensor.element_size() for tensor in kept.values())
    weights = sum(tensor.numel() * tensor.element_size() for tensor in network.parameters())
    del loss
    return int(passed * (HALF_PRECISION if is_half else 1)) + 3 * weights


def _disk_problems(datasets: Iterable[Dataset]) -> Iterator[RequestError]:
    needed = sum(dataset.bytes_to_cache() for dataset in datasets)
    folder = cache_folder()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        yield RequestError(
            f"decoded pictures take {_gb(needed)} of the cache {folder}, which has {_gb(free)} free: set "
            "PIXMIX_RAY_CACHE to a larger disk, dataset.streamed: true, or dataset.train_limit"
        )


def _host_problems(trial: Trial, memory: int) -> Iterator[RequestError]:
    dataset = trial.dataset.settings
    total, height = dataset.num_train_images(), dataset.height()
    if total is None or height is None or dataset.is_streamed():
        return
    count = min(total, dataset.train_limit or total)
    needed = COPIES * count * height**2 * 3
    if needed > memory:
        yield RequestError(
            f"a trial keeps {count} training pictures of {height} pixels in memory, {_gb(needed)} while they are laid "
            f"out, and this machine has {_gb(memory)}: set dataset.streamed: true, or dataset.train_limit"
        )


def _device_problems(trial: Trial, share: Share, memory: int) -> Iterator[RequestError]:
    device = f"this machine has {_gb(memory)}"
    if share.gpus:
        if not torch.cuda.is_available():
            return  # planned elsewhere than where it trains
        memory = torch.cuda.get_device_properties(0).total_memory
        device = f"the GPU has {_gb(memory)}"
    batch_size = ceil(trial.training.batch_size / max(1, share.gpus))
    size = trial.training.side(trial.dataset.settings.height() or 0)
    needed = _needed(trial, batch_size, size) if size else None
    if needed is not None and needed > memory:
        yield RequestError(
            f"{trial.model.settings.label()} on {batch_size} pictures of {size} pixels at once takes {_gb(needed)} of "
            f"memory or more, and {device}: lower training.batch_size or training.crop_size, set training.precision: "
            "bfloat16, or take a smaller model"
        )


def _needed(trial: Trial, batch_size: int, size: int) -> int | None:
    """What a step of the trial takes at least; none where its network cannot be run as shapes alone."""
    settings = trial.model.settings
    fresh = settings.model_copy(update={"weights": None}) if "weights" in type(settings).model_fields else settings
    try:
        with torch.device("meta"):
            network = fresh.build(2)
        return training_bytes(
            network.to("meta").train(), batch_size, size, is_half=trial.training.precision == "bfloat16"
        )
    except Exception:  # networks of other people, which may do anything: the trial itself will tell
        return None


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
