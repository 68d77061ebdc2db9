"""The image operations compiled for this machine's processor: the same numbers, several times as fast.

`kernels.c` is compiled once a machine, by the C compiler that `CC` names or by `cc`, into the cache folder; that takes
about a second. Nothing depends on it: without a compiler, with PIXMIX_RAY_NATIVE=0 in the environment, or on a GPU the
tensor operations of PyTorch do the work, bit for bit alike. So a trial's identity says nothing of it.

The compiled code uses as many threads as torch does, by OpenMP where the compiler has it.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

import torch
from filelock import FileLock
from torch import Tensor

from pixmix_ray.cache import cache_folder
from pixmix_ray.memory import keep_freed_memory

SOURCE: Final = Path(__file__).with_name("kernels.c")
FLAGS: Final = ("-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fwrapv")
OPEN_MP: Final = (("-fopenmp",), ())  # the second where the compiler has none
SECONDS: Final = 120  # that a compiler may take
POWERS: Final = ("vmsLog2", "Sleef_exp2f8_u10")  # behind torch.log2 and torch.exp2, where torch is built with MKL

_log = logging.getLogger(__name__)


def library() -> ctypes.CDLL | None:
    """The compiled operations; None where they are switched off or cannot be made."""
    keep_freed_memory()
    return None if os.environ.get("PIXMIX_RAY_NATIVE") == "0" else _loaded()


@cache  # for good: what is loaded stays loaded
def _loaded() -> ctypes.CDLL | None:
    compiler = shlex.split(os.environ.get("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        _log.info("no C compiler %s: the image operations run in PyTorch alone", compiler[0])
        return None
    try:
        return ctypes.CDLL(str(_compiled(compiler, cache_folder())))
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or error
        _log.warning("%s could not be compiled, the image operations run in PyTorch alone: %s", SOURCE, said)
        return None


def _compiled(compiler: list[str], folder: Path) -> Path:
    """The file of the shared library, made in `folder` if it is not there yet."""
    # a home folder may be shared by machines with other processors
    parts = [*compiler, *FLAGS, platform.platform(), _processor(), SOURCE.read_text(encoding="utf-8")]
    file = folder / f"kernels-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:16]}.so"
    if file.is_file():
        return file
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        if not file.is_file():  # another process may have made it while we waited
            beside = file.with_name(f"{file.name}.{os.getpid()}.part")
            try:
                _compile(compiler, beside)
                beside.rename(file)
            finally:
                beside.unlink(missing_ok=True)
    return file


def _compile(compiler: list[str], file: Path) -> None:
    for number, open_mp in enumerate(OPEN_MP, 1):
        command = [*compiler, *FLAGS, *open_mp, "-shared", "-fPIC", str(SOURCE), "-o", str(file), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=number == len(OPEN_MP))
        if done.returncode == 0:
            return


def _processor() -> str:
    """What the processor can do, as far as that is told."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text(encoding="utf-8").splitlines() if described.is_file() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def operate(name: str, images: Tensor, parameters: Tensor | None = None, fill: int = 0) -> Tensor | None:
    """New pictures after operation `name` of kernels.c, uint8 (N, 3, H, W); None where PyTorch must do it.

    Args:
        name: of the function there.
        images: uint8 (N, 3, H, W); not changed.
        parameters: (N,) or (N, P), the parameters of each picture; none for an operation that takes none.
        fill: the value of what comes in from outside, 0 to 255.
    """
    if images.shape[1] != 3 or min(images.shape[2:]) < 2 or (compiled := _for(images)) is None:
        return None
    count, _, height, width = images.shape
    pictures = images.contiguous()
    numbers = torch.zeros(count) if parameters is None else parameters
    numbers = numbers.to(torch.float64).reshape(count, -1).contiguous()
    made = torch.empty_like(pictures)
    compiled.each(
        getattr(compiled, name),
        *(_address(pictures), _address(numbers), numbers.shape[1] if count else 0, ctypes.c_int64(count)),
        *(height, width, fill, torch.get_num_threads(), _address(made)),
    )
    return made


def crop(images: Tensor, top: Tensor, left: Tensor, is_flipped: Tensor, padding: int) -> Tensor | None:
    """Windows of the pictures in a black frame, of which some are flipped first; None where PyTorch must do it.

    Args:
        images: uint8 (N, 3, H, W); not changed.
        top: int64 (N,), in 0..2 * padding.
        left: int64 (N,), in 0..2 * padding.
        is_flipped: bool (N,).
        padding: the width of the frame in pixels.
    """
    if images.shape[1] != 3 or (compiled := _for(images)) is None:
        return None
    count, _, height, width = images.shape
    pictures, tops, lefts = images.contiguous(), top.contiguous(), left.contiguous()
    made = torch.empty_like(pictures)
    compiled.crop(
        *(_address(pictures), _address(tops), _address(lefts), _address(is_flipped), padding),
        *(ctypes.c_int64(count), height, width, torch.get_num_threads(), _address(made)),
    )
    return made


def to_unit(images: Tensor) -> Tensor | None:
    """uint8 values of any shape divided by 255, float32; None where PyTorch must do it."""
    if images.dtype != torch.uint8 or (compiled := _for(images)) is None:
        return None
    values = images.contiguous()
    made = torch.empty(values.shape)
    compiled.to_unit(_address(values), ctypes.c_int64(values.numel()), torch.get_num_threads(), _address(made))
    return made


def paint_(images: Tensor, boxes: Tensor, value: float) -> bool:
    """Set a box of each picture to `value`, in place; False where PyTorch must do it.

    Args:
        images: float32 (N, 3, H, W), changed.
        boxes: int64 (4, N): top, bottom, left and right, in pixels, within the pictures.
        value: of all channels.
    """
    if not images.is_contiguous() or (compiled := _for(images)) is None:
        return False
    count, _, height, width = images.shape
    places = boxes.contiguous()
    compiled.paint(
        *(_address(images), _address(places), ctypes.c_float(value)), *(ctypes.c_int64(count), height, width)
    )
    return True


def on_rows_(name: str, *tensors: Tensor) -> bool:
    """Let function `name` of kernels.c, one for rows of float32 values, change the first tensor in place.

    Args:
        name: add or multiply; what they do is said there.
        tensors: their arguments, contiguous; the first, float32 (N, ...), is changed. The last has a number for each
            of its rows.

    Returns:
        False where PyTorch must do it.
    """
    if (compiled := _for(tensors[0])) is None or not all(tensor.is_contiguous() for tensor in tensors):
        return False
    sizes = (len(tensors[-1]), tensors[0].shape[1:].numel())
    getattr(compiled, name)(*map(_address, tensors), *map(ctypes.c_int64, sizes), torch.get_num_threads())
    return True


def take_powers() -> bool:
    """Give torch's own logarithms and powers to the compiled code; False where it cannot have them.

    They are not part of torch's interface: compare what comes out with torch before use.
    """
    if (compiled := _loaded()) is None or torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        return False
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).with_name("lib") / "libtorch_cpu.so"))
        functions = [ctypes.cast(getattr(library, name), ctypes.c_void_p) for name in POWERS]
    except (OSError, AttributeError) as error:
        _log.info("products run in PyTorch: %s", error)
        return False
    return bool(compiled.use(*functions))


def mix(images: Tensor, pictures: Tensor, names: Sequence[str], choices: Sequence[Tensor]) -> Tensor:
    """PixMix's mixes, picture by picture: float32 (N, 3, H, W) in [0, 1]; only where `take_powers` gave the powers.

    Args:
        images: uint8 (N, 3, H, W) on the processor, with two rows and two columns at least.
        pictures: uint8 (N, 3, H, W), the mixing pictures.
        names: of the operations, in the order in which they are numbered.
        choices: rounds, is_copy and operation as in `pixmix_ray.methods.pixmix.Draws`, two float64 numbers for each
            slot as `compiled_parameters` has them, and is_product, a and b.
    """
    compiled = _loaded()
    assert compiled is not None
    count, _, height, width = images.shape
    tensors = [tensor.contiguous() for tensor in (images, pictures, *choices)]  # kept while the code runs
    k, num_threads = choices[-1].shape[1], torch.get_num_threads()
    copies = torch.empty(num_threads, 1 + k, images[:1].numel(), dtype=torch.uint8)
    made = torch.empty(images.shape)
    operations = [ctypes.cast(getattr(compiled, name), ctypes.c_void_p).value for name in names]
    addresses = [_address(tensor) for tensor in tensors]
    sizes = (k, ctypes.c_int64(count), height, width, num_threads)
    table = (ctypes.c_void_p * len(names))(*operations)
    compiled.mix(*addresses[:2], table, *addresses[2:], *sizes, _address(copies), _address(made))
    return made


def _for(tensor: Tensor) -> ctypes.CDLL | None:
    """The compiled operations, if they can do anything for this tensor."""
    return library() if tensor.device.type == "cpu" else None


def _address(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
