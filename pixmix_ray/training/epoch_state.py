"""How far an epoch of a training has come, so that it can go on from there in another process."""

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from pixmix_ray.seeding import rng, seed_globally
from pixmix_ray.training.batches import BatchShare
from pixmix_ray.training.workers import Workers


@dataclass(kw_only=True)
class EpochState:
    """A place in an epoch, between two batches.

    Attributes:
        number: of the epoch, from 1.
        batches: that were trained on.
        loss_sum: over their pictures, a scalar on the device of the training.
        seconds: that they took.
        scalars: where the method draws on the host.
        global_states: of torch's global generators, which dropout draws from, by the kind of their device.
    """

    number: int
    batches: int
    loss_sum: Tensor
    seconds: float
    scalars: np.random.Generator
    global_states: dict[str, Tensor]

    @staticmethod
    def first(device: torch.device, seed: int, number: int) -> "EpochState":
        """The beginning of epoch `number` of the training that `seed` names, on a device."""
        with _forked(device):
            # dropout can only draw from the global generator: seed it for this epoch alone
            seed_globally(seed, "dropout", number, device=device)
            states = _global_states(device)
        return EpochState(
            number=number,
            batches=0,
            loss_sum=torch.zeros((), device=device),
            seconds=0.0,
            scalars=rng(seed, "loss", number),
            global_states=states,
        )

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The global generators are the epoch's own meanwhile, and the seconds count."""
        device, started = self.loss_sum.device, time.perf_counter()
        with _forked(device):
            torch.set_rng_state(self.global_states["cpu"])
            if device.type == "cuda":
                torch.cuda.set_rng_state(self.global_states["cuda"], device)
            yield
            self.global_states = _global_states(device)
        self.seconds += time.perf_counter() - started

    def tensors(self, workers: Workers) -> dict[str, Tensor]:
        """All of it but `number`, by names that begin with "epoch."; the living tensors.

        Where several train together, what each of them draws from is in there, (of, ...); they all call this.
        """
        drawn_from = {"scalars": _philox_tensor(self.scalars), **self.global_states}
        if workers.share.of > 1:
            drawn_from = {name: workers.gathered(tensor) for name, tensor in drawn_from.items()}
        values = {
            "batches": torch.tensor(self.batches),
            "loss_sum": self.loss_sum,
            "seconds": torch.tensor(self.seconds, dtype=torch.float64),
            **drawn_from,
        }
        return {f"epoch.{name}": tensor for name, tensor in values.items()}

    def restore(self, tensors: Mapping[str, Tensor], share: BatchShare) -> None:
        """Go on from what `tensors` returned; where it holds no place, it stays as it is."""
        if "epoch.batches" not in tensors:
            return
        self.batches, self.seconds = int(tensors["epoch.batches"]), float(tensors["epoch.seconds"])
        if share.rank == 0:  # the sum is of all workers
            self.loss_sum = tensors["epoch.loss_sum"].to(self.loss_sum.device, copy=True)
        self.scalars.bit_generator.state = _philox_state(_own(tensors["epoch.scalars"], share.rank))
        for kind in self.global_states:
            if f"epoch.{kind}" in tensors:
                self.global_states[kind] = _own(tensors[f"epoch.{kind}"], share.rank).cpu()


def _own(states: Tensor, rank: int) -> Tensor:
    """The state of one worker among those of all (of, n), or of the only one (n,).

    They differ only where somebody's method draws by the length of its share.
    """
    rows = states.reshape(-1, states.shape[-1])
    return rows[min(rank, len(rows) - 1)].clone()  # torch 2.15 crashes on a generator's state that is a view


def _forked(device: torch.device) -> AbstractContextManager[None]:
    """The global generators are given back as they were."""
    return cast(AbstractContextManager[None], torch.random.fork_rng(devices=[device] if device.type == "cuda" else []))


def _global_states(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _philox_tensor(generator: np.random.Generator) -> Tensor:
    """The state of a generator on Philox, (13,) int64."""
    state: Any = generator.bit_generator.state
    words = [*state["state"]["counter"], *state["state"]["key"], *state["buffer"]]
    words += [state["buffer_pos"], state["has_uint32"], state["uinteger"]]
    return torch.from_numpy(np.array(words, dtype=np.uint64).view(np.int64))


def _philox_state(words: Tensor) -> dict[str, Any]:
    """What `_philox_tensor` made a tensor of."""
    values = words.cpu().numpy().view(np.uint64)
    return {
        "bit_generator": "Philox",
        "state": {"counter": values[:4], "key": values[4:6]},
        "buffer": values[6:10],
        "buffer_pos": int(values[10]),
        "has_uint32": int(values[11]),
        "uinteger": int(values[12]),
    }
