"""How exactly a GPU computes is set for a block, also where PyTorch's defaults are others, and then as it was."""

from collections.abc import Iterator

import pytest
import torch

from pixmix_ray import hardware as module
from pixmix_ray.hardware import Tf32, arithmetic


@pytest.fixture(autouse=True)
def _other_defaults(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As another version of PyTorch, or a program around us, may have them."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = module._state()
    module._set((False, True, True, False, False))
    yield
    module._set(before)


@pytest.mark.parametrize(
    ("tf32", "convolutions", "products"),
    [("nowhere", False, False), ("convolutions", True, False), ("everywhere", True, True)],
)
@pytest.mark.parametrize("deterministic", [False, True])
def test_a_block_computes_as_it_says(tf32: Tf32, convolutions: bool, products: bool, deterministic: bool) -> None:
    outside = module._state()
    with pytest.raises(ZeroDivisionError), arithmetic(tf32, deterministic=deterministic):
        assert torch.backends.cudnn.allow_tf32 is convolutions
        assert torch.backends.cuda.matmul.allow_tf32 is products
        assert torch.backends.cudnn.benchmark is False  # it would choose by the clock
        assert torch.backends.cudnn.deterministic is deterministic
        assert torch.are_deterministic_algorithms_enabled() is deterministic
        _ = 1 // 0
    assert module._state() == outside


def test_the_default_is_what_was_computed_before_it_could_be_said() -> None:
    with arithmetic():
        assert module._state() == (True, False, False, False, False)
