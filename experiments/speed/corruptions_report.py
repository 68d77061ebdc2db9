"""The rates of corruptions for people: how they were measured, and a grid of corruptions beside peers."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from experiments.speed.corruption_peers import PEERS
from experiments.speed.corruptions import CROPPED_FROM, PEER_PICTURES, CorruptionRate, CorruptionSpeedRequest
from experiments.speed.document import Grid, processors, rate_text, ratio_text, today, versions
from experiments.speed.material import KINDS

TITLES = {"c": "C", "c_bar": "C-bar", "p": "P"}
LIBRARIES = ("numpy", "scipy", "pillow")
BESIDE_PEERS = ("scikit-image", "opencv-python-headless", "opencv-python")  # whatever of it is installed


def corruptions_heading(request: CorruptionSpeedRequest) -> str:
    """How the rates were measured: command, hardware, versions, pictures and what is timed, in Markdown."""
    size, kind = request.size, KINDS[request.size]
    parts = [
        f"`{corruptions_command(request)}`: {processors('cpu', 1)}; {versions(LIBRARIES)}{_beside()}; {today()}. "
        f"Medians of {request.repeats}, ours and its peers in turn, on crops of {kind.fractals} generated fractals, in "
        "memory, random draws included."
    ]
    if set(request.families) & {"c", "c_bar"}:
        parts.append(
            f"C and C-bar: pictures a second at severity {request.severity}, {request.corrupted_at_once} at once."
        )
    if "p" in request.families:
        cropped = "" if CROPPED_FROM[size] == size else f", cut from {CROPPED_FROM[size]} pixels"
        parts.append(
            f"P: sequences a second at difficulty 1, of {request.perturbed_at_once} pictures at once{cropped}."
        )
    if "c" in request.families:
        parts.append(
            f"The peers get {PEER_PICTURES[size]} pictures one by one, as their documents show it, on one thread; they "
            "take the constants for ImageNet at every size, so at 32 pixels they do not make CIFAR-C. A dash: not "
            "installed, or not made with the libraries here; a peer's mean and its ratio are over what it makes."
        )
    return " ".join(parts)


def corruptions_command(request: CorruptionSpeedRequest) -> str:
    """The command that measures the same again."""
    chosen = {"family": request.family, "size": request.size, "severity": request.severity, "repeats": request.repeats}
    options = [text for name, value in chosen.items() if value is not None for text in (f"--{name}", str(value))]
    return " ".join(["python -m experiments.speed corruptions", *options])


def corruptions_grid(rates: Sequence[CorruptionRate]) -> Grid:
    """A row for each corruption and each mean, a rate and a ratio for each peer."""
    columns = ["set", "name", "ours, /s"]
    for peer in PEERS:
        columns += [f"{peer}, /s", "ratio"]
    rows = [
        (
            TITLES[rate.family],
            rate.name if rate.is_scored else f"{rate.name} (extra)",
            rate_text(rate.ours),
            *(text for peer in PEERS for text in (rate_text(rate.peers.get(peer)), ratio_text(rate.ratio(peer)))),
        )
        for rate in rates
    ]
    return Grid(columns=tuple(columns), numbers=frozenset(range(2, len(columns))), rows=tuple(rows))


def _beside() -> str:
    found = []
    for name in (*PEERS, *BESIDE_PEERS):
        try:
            found.append(f", {name} {version(name)}")
        except PackageNotFoundError:
            continue
    return "".join(found)
