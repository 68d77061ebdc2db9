"""A network in ONNX, run by onnxruntime: whatever framework it was trained with. It gives no gradients."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from pixmix_ray.errors import CheckpointError, one_line
from pixmix_ray.models.base import MODELS, PreparedModel, needed
from pixmix_ray.models.exported import in_batches

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


@MODELS.add("onnx")
class Onnx(PreparedModel):
    """An ONNX file with one input, pictures (N, 3, H, W), and logits for its first output.

    Attributes:
        mean: of the three channels in [0, 1], taken off before the network; by default nothing.
        std: what they are then divided by; by default 1.
        input_size: pixels that pictures are resized to, bilinearly; none takes them as they come.
    """

    summary: ClassVar[str] = "a network in ONNX, under checkpoints (pip install 'pixmix_ray[onnx]')"
    source: ClassVar[str] = "onnxruntime"
    has_gradients: ClassVar[bool] = False
    is_trained: ClassVar[bool] = False

    def label(self) -> str:
        """The name in results."""
        return "onnx"

    def opened(self, weights: Path, num_outputs: int | None) -> nn.Module:
        """The network in the file."""
        runtime = needed("onnxruntime", "the model onnx")
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = torch.get_num_threads()
        wanted = ["CUDAExecutionProvider"] if torch.cuda.is_available() else []
        there = runtime.get_available_providers()
        providers = [one for one in (*wanted, "CPUExecutionProvider") if one in there]
        try:
            session = runtime.InferenceSession(str(weights), options, providers=providers)
        except Exception as error:  # classes of its own, of no common base
            raise CheckpointError(f"{weights} is not an ONNX file that onnxruntime reads: {one_line(error)}") from None
        return self.prepared(_Session(session, weights))


class _Session(nn.Module):
    """A session of onnxruntime as a torch module without parameters."""

    def __init__(self, session: Any, weights: Path) -> None:
        super().__init__()
        inputs = session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in TYPES:
            held = ", ".join(f"{one.name}: {one.type}" for one in inputs)
            raise CheckpointError(f"{weights} has the inputs {held}: it must have one, pictures in floating point")
        (self._input,) = inputs
        batch = self._input.shape[0]
        self._batch = batch if isinstance(batch, int) else None
        self._session = session

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K) float32."""
        return in_batches(self._run, images, self._batch)

    def _run(self, images: Tensor) -> Tensor:
        pixels = images.detach().cpu().numpy().astype(TYPES[self._input.type])
        found = self._session.run(None, {self._input.name: np.ascontiguousarray(pixels)})[0]
        return torch.from_numpy(np.asarray(found, np.float32)).to(images.device)
