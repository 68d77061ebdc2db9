"""The exception tree: what is whose child, messages in one line, and the way between processes."""

import pickle

import pytest

from pixmix_ray.errors import (
    CheckpointError,
    ClusterError,
    DamagedError,
    DataError,
    HeldError,
    PixmixRayError,
    RequestError,
    ResultsError,
    StorageError,
    TrainingDivergedError,
    TryAgainError,
    UnknownNameError,
    WorkError,
)

EXAMPLES: list[PixmixRayError] = [
    RequestError("epochs must be at least 1, got 0"),
    UnknownNameError("method", "pixmx", ["baseline", "pixmix"]),
    DataError("no folder"),
    CheckpointError("no checkpoint"),
    ResultsError("no results"),
    ClusterError("no cluster"),
    DamagedError("flipped"),
    HeldError("another run"),
    StorageError("a full disk"),
    WorkError("the network returns NaN"),
    TrainingDivergedError(3, float("nan")),
    TrainingDivergedError(3, float("inf")),
]
REQUESTS = (UnknownNameError, DataError, CheckpointError, ResultsError, DamagedError, ClusterError)


@pytest.mark.parametrize("kind", REQUESTS)
def test_every_mistake_of_the_user_is_a_request_error_and_a_value_error(kind: type[PixmixRayError]) -> None:
    assert issubclass(kind, RequestError)
    assert issubclass(kind, ValueError)
    assert not issubclass(kind, WorkError)


def test_a_failure_during_the_work_is_no_mistake_of_the_user() -> None:
    assert issubclass(TrainingDivergedError, WorkError)
    assert issubclass(WorkError, PixmixRayError)
    assert not issubclass(WorkError, ValueError)


@pytest.mark.parametrize("kind", [HeldError, StorageError])
def test_what_may_succeed_later_is_neither(kind: type[PixmixRayError]) -> None:
    assert issubclass(kind, TryAgainError)
    assert not issubclass(kind, RequestError | WorkError)


@pytest.mark.parametrize(
    ("branch", "code"), [(PixmixRayError, 1), (RequestError, 2), (TryAgainError, 75), (WorkError, 1)]
)
def test_exit_codes_follow_the_tree(branch: type[PixmixRayError], code: int) -> None:
    assert branch.exit_code == code
    for error in EXAMPLES:
        kind = type(error)
        if kind.__mro__[kind.__mro__.index(PixmixRayError) - 1] is branch:  # the class right below the root
            assert kind.exit_code == code


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_keeps_class_and_message_on_its_way_between_processes(error: PixmixRayError) -> None:
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)


def test_a_diverged_training_says_in_which_epoch_and_what_to_do() -> None:
    error = TrainingDivergedError(7, float("inf"))
    assert error.epoch == 7
    assert pickle.loads(pickle.dumps(error)).epoch == 7
    for part in ("inf", "epoch 7", "training.lr"):
        assert part in str(error)


def test_an_unknown_name_is_told_with_the_nearest_and_all_known_ones_sorted() -> None:
    message = str(UnknownNameError("method", "pixmx", ["pixmix", "cutmix", "baseline"]))
    assert "unknown method 'pixmx'" in message
    assert "did you mean 'pixmix'?" in message
    assert message.endswith("Known: baseline, cutmix, pixmix")


def test_a_name_that_is_near_to_none_gets_no_suggestion() -> None:
    message = str(UnknownNameError("model", "zzz", ["wide_resnet"]))
    assert "did you mean" not in message
    assert "wide_resnet" in message


def test_a_name_with_a_line_break_still_makes_one_line() -> None:
    assert "\n" not in str(UnknownNameError("method", "pix\nmix", ["pixmix"]))


@pytest.mark.parametrize(
    ("name", "near"), [("PIXMIX", "pixmix"), ("CIFAR-10", "cifar10"), ("Wide ResNet", "wide_resnet")]
)
def test_a_name_in_another_case_or_spelling_is_recognised(name: str, near: str) -> None:
    assert f"did you mean {near!r}?" in str(UnknownNameError("part", name, ["pixmix", "cifar10", "wide_resnet"]))
