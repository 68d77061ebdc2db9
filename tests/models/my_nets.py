"""Functions as somebody would write them, which make networks."""

from torch import Tensor, nn
from torch.nn import functional as F


class Net(nn.Module):
    """The network of test_sources.py."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.head = nn.Linear(4, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        return self.head(F.relu(self.conv(images)).mean((2, 3)))  # type: ignore[no-any-return]  # torch types modules as Any


def build(num_classes: int = 10, outputs: int | None = None) -> nn.Module:
    """The network."""
    return Net(outputs or num_classes)


def nothing() -> dict[str, int]:
    """No network."""
    return {}


class _Tuple(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images, images


def tuple_of_logits() -> nn.Module:
    """A network that returns several things."""
    return _Tuple()
