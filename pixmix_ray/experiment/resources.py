"""What one trial and one evaluation take of the cluster. Nothing of it is part of a trial's identity."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, PrivateAttr, field_validator, model_validator

from pixmix_ray.settings import Settings

_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<prefix>[kKMGT]?)(?P<binary>i?)B")
_NAMED_ELSEWHERE = {"CPU": "cpus", "GPU": "gpus", "memory": "memory", "object_store_memory": "memory"}


def _bytes(value: object) -> object:
    """The bytes of a text such as 4GB (10^9) or 4GiB (2^30); other values as they are."""
    if not isinstance(value, str):
        return value
    found = _SIZE.fullmatch(value.strip())
    if found is None or (found["binary"] and not found["prefix"]):
        raise ValueError("give a number of bytes, or a text such as 4GB, 500MB or 4GiB")
    base, power = 1024 if found["binary"] else 1000, " KMGT".index(found["prefix"].upper() or " ")
    return int(float(found["number"]) * base**power)


TRIAL_GPUS = 0.75

Text = Annotated[str, Field(min_length=1)]
Memory = Annotated[int, Field(gt=0), BeforeValidator(_bytes)]


class Share(Settings):
    """What one trial, or one evaluation, takes of the cluster; fractions are fine.

    Attributes:
        cpus: also 1.5.
        gpus: below 1, several share a GPU; above, several workers train a trial together, a GPU each, on one node or on
            several. Where there are GPUs and neither a trial nor an evaluation says it, the one takes 0.75 of a GPU and
            the other 0.25.
        workers: processes that train a trial together, each on its share of every batch and with its part of all that
            is given here; none means one for each GPU, at least one.
        memory: bytes, or a text such as 4GB; Ray keeps it free, and does not enforce it.
        accelerator_type: the kind of GPU as Ray names it, such as H100.
        labels: what the labels of the node must be, as in Ray's label selectors, such as {market-type: spot}.
        custom: amounts of the cluster's own resources, by name.
    """

    cpus: float = Field(1, ge=0)
    gpus: float = Field(0, ge=0)
    workers: int | None = Field(None, ge=1)
    memory: Memory | None = None
    accelerator_type: Text | None = None
    labels: Mapping[Text, Text] = {}
    custom: Mapping[Text, Annotated[float, Field(gt=0)]] = {}

    @property
    def num_workers(self) -> int:
        """How many processes share it."""
        return self.workers or max(1, int(self.gpus))

    def of_worker(self) -> Self:
        """What one of them takes.

        >>> Share(cpus=4, gpus=2).of_worker().described()
        '2 CPU, 1 GPU'
        """
        count = self.num_workers
        if count == 1:
            return self
        changes = {
            "cpus": self.cpus / count,
            "gpus": self.gpus / count,
            "memory": self.memory and self.memory // count,
            "custom": {name: amount / count for name, amount in self.custom.items()},
            "workers": 1,
        }
        return self.model_copy(update=changes)

    def described(self) -> str:
        """CPUs and GPUs for people.

        >>> Share(cpus=0.5, gpus=1).described()
        '0.5 CPU, 1 GPU'
        """
        return ", ".join([f"{self.cpus:g} CPU", *([f"{self.gpus:g} GPU"] if self.gpus else [])])

    @model_validator(mode="after")
    def _each_worker_has_a_whole_gpu(self) -> Self:
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus = {self.gpus:g}: above 1 it must be a whole number, one GPU for each worker")
        if self.gpus > 0 and self.num_workers > 1 and self.num_workers != self.gpus:
            raise ValueError(
                f"workers = {self.workers}, but gpus = {self.gpus:g}: give each worker one GPU, or leave workers out"
            )
        return self

    @field_validator("custom")
    @classmethod
    def _has_no_key_of_its_own(cls, custom: Mapping[str, float]) -> Mapping[str, float]:
        for name in custom:
            if name in _NAMED_ELSEWHERE:
                raise ValueError(f"give {name} by its own key, {_NAMED_ELSEWHERE[name]}")
        return custom


def _size(share: Share) -> tuple[float, ...]:
    """What orders shares: GPUs first."""
    return share.gpus, share.num_workers, share.cpus, share.memory or 0, sum(share.custom.values())


class Resources(Settings):
    """The shares of a trial and of an evaluation. One evaluation's share is kept free while trials train.

    Attributes:
        trial: the share of a trial; the largest, where it is an axis.
        evaluation: the share of an evaluation.
        wait_seconds: how long to wait for nodes that a growing cluster may add, where no node can hold a share.
    """

    trial: Share = Share()
    evaluation: Share = Share()
    wait_seconds: float = Field(600, ge=0)
    _others: tuple[Share, ...] = PrivateAttr(())

    @property
    def shares(self) -> tuple[Share, ...]:
        """What trials take: one for all, or one for each point of an axis, the largest first."""
        return (self.trial, *self._others)

    @classmethod
    def joined(cls, points: Sequence[Self]) -> Self:
        """The resources of several points of an axis, which differ in the share of a trial."""
        shares: list[Share] = []
        for share in sorted((point.trial for point in points), key=_size, reverse=True):
            if share not in shares:
                shares.append(share)
        return points[0]._with_shares(shares)

    def _with_shares(self, shares: Sequence[Share]) -> Self:
        made = self.model_copy(update={"trial": shares[0]})
        made._others = tuple(shares[1:])
        return made

    def with_gpus(self) -> Self:
        """These shares where there are GPUs: a trial and an evaluation share one, if neither says what it takes."""
        if any({"gpus", "workers"} & share.model_fields_set for share in (*self.shares, self.evaluation)):
            return self
        evaluation = self.evaluation.model_copy(update={"gpus": 1 - TRIAL_GPUS})
        shares = [share.model_copy(update={"gpus": TRIAL_GPUS}) for share in self.shares]
        return self.model_copy(update={"evaluation": evaluation})._with_shares(shares)

    @field_validator("evaluation")
    @classmethod
    def _takes_one_gpu(cls, share: Share) -> Share:
        if share.num_workers > 1:
            raise ValueError(
                f"{'gpus' if share.workers is None else 'workers'} = {share.num_workers}, but one process evaluates: "
                "give 1 or a fraction of a GPU; evaluations run side by side"
            )
        return share
