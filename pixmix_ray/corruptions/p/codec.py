"""Sequences as they come back from H.264 video, in which ImageNet-P was published.

Source: hendrycks/robustness@8190fe3, make_imagenet_p.py: frames encoded by libx264 with the preset veryslow and colours
at half the resolution, noise tuned for grain, everything else with crf 20. The encoder is that of PyAV, an optional
extra; its bytes may differ from one version to the next, so the version belongs to what is measured.
"""

import importlib
from io import BytesIO
from types import ModuleType

import numpy as np

from pixmix_ray.corruptions.p.geometry import Frames
from pixmix_ray.errors import DataError

RATE = 25  # frames a second, ffmpeg's own default
COMMON = {"preset": "veryslow", "threads": "1"}
NOISE, OTHER = {"tune": "grain"}, {"crf": "20"}


def encoder() -> ModuleType:
    """PyAV; raises DataError if it is not installed."""
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise DataError(
            f"H.264 needs PyAV, which cannot be imported ({error}): pip install 'pixmix_ray[video]', or leave codec out"
        ) from error


def through_h264(sequences: Frames, *, is_noise: bool) -> Frames:
    """Sequences (N, T, H, W, 3) uint8 as they come back from videos, the same shape.

    Args:
        sequences: of frames with an even height and width.
        is_noise: whether they are tuned for grain.

    Raises:
        DataError: PyAV is not installed, or the frames have an odd side.
    """
    height, width = sequences.shape[2:4]
    if height % 2 or width % 2:
        raise DataError(f"H.264 halves colours, and frames are {width} x {height}: their sides must be even")
    return np.stack([_through(frames, NOISE if is_noise else OTHER) for frames in sequences])


def _through(frames: Frames, options: dict[str, str]) -> Frames:
    av = encoder()
    file = BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE, options={**COMMON, **options})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(decoded)
