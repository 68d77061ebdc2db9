"""The networks of RobustBench's model zoo, by their names there; their normalisation is their own.

The zoo's own loader reads the files, since it knows of each what its authors left out of it, or called otherwise. It
unpickles nothing but tensors, as torch has it by default.
"""

import pickle
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal, Self

from torch import nn

from pixmix_ray.errors import CheckpointError, RequestError, UnknownNameError, one_line
from pixmix_ray.models.base import MODELS, PreparedModel, needed
from pixmix_ray.models.weights import DAMAGED

HINT = "pip install git+https://github.com/RobustBench/robustbench"


@MODELS.add("robustbench")
class RobustBenchModel(PreparedModel):
    """A network of the zoo.

    Attributes:
        arch: its name there, such as Standard or Wang2023Better_WRN-28-10.
        zoo: the data set that the name belongs to.
        threat_model: likewise.
        mean: of the three channels in [0, 1], taken off before the network; by default nothing, as the zoo's networks
            normalise by themselves.
        std: what they are then divided by; by default 1.
    """

    summary: ClassVar[str] = "RobustBench's model zoo: arch Standard, ...; zoo, threat_model (where it is installed)"
    source: ClassVar[str] = "Croce et al., NeurIPS 2021 (RobustBench)"

    arch: str
    zoo: Literal["cifar10", "cifar100", "imagenet"] = "cifar10"
    threat_model: Literal["Linf", "L2", "corruptions"] = "Linf"

    def label(self) -> str:
        """The name in results, the zoo's."""
        return self.arch

    def network(self, num_classes: int) -> nn.Module:
        """The zoo's network with fresh weights."""
        made: nn.Module = self._entry()["model"]()
        return made

    def with_weights(self, weights: Path | None) -> tuple[Self, Path]:
        """As `Model.with_weights`; published ones are downloaded by the zoo into its folder `models`."""
        if weights is not None:
            return self, weights
        file = self._file(Path("models"))
        if not file.is_file():
            self._entry()
            try:
                self._loaded(Path("models"))
            except Exception as error:  # a network, and other people's code
                raise RequestError(
                    f"weights of {self.arch} cannot be downloaded ({type(error).__name__}: {one_line(error)}): fetch "
                    "them on a machine with a network, and give the file as weights"
                ) from None
        return self, file.resolve()

    def opened(self, weights: Path, num_outputs: int | None) -> nn.Module:
        """The zoo's network with the weights of a file of the zoo's."""
        self._entry()
        if not weights.is_file():
            raise CheckpointError(f"no checkpoint file {weights}: give the file of the zoo")
        with TemporaryDirectory() as folder:
            file = self._file(Path(folder))  # where the zoo looks for it
            file.parent.mkdir(parents=True)
            file.symlink_to(weights.resolve())
            try:
                return self.prepared(self._loaded(Path(folder)))
            except (pickle.UnpicklingError, *DAMAGED) as error:
                raise CheckpointError(
                    f"{weights} is not the zoo's file of {self.arch} ({self.zoo}, {self.threat_model}), or not whole: "
                    f"{one_line(error)}"
                ) from None

    def _file(self, folder: Path) -> Path:
        return folder / self.zoo / self.threat_model / f"{self.arch}.pt"

    def _loaded(self, folder: Path) -> nn.Module:
        load = _zoo("utils").load_model
        with warnings.catch_warnings(action="ignore"):  # of old names of timm's and torchvision's
            network: nn.Module = load(self.arch, model_dir=folder, dataset=self.zoo, threat_model=self.threat_model)
        return network

    def _entry(self) -> dict[str, Any]:
        zoo = _zoo("model_zoo").model_dicts
        of_data = {getattr(key, "value", key): value for key, value in zoo.items()}[self.zoo]
        found: dict[str, Any] = {getattr(key, "value", key): value for key, value in of_data.items()}.get(
            self.threat_model, {}
        )
        if self.arch not in found:
            raise UnknownNameError("arch", self.arch, found)
        entry: dict[str, Any] = found[self.arch]
        if isinstance(entry.get("gdrive_id"), list):
            raise RequestError(f"{self.arch} is an ensemble, whose weights are several files: evaluate its members")
        if not entry.get("gdrive_id"):
            raise RequestError(
                f"the zoo has no file of {self.arch}, whose weights come with timm or torchvision: take it as a model "
                "of theirs"
            )
        return entry


def _zoo(module: str) -> Any:
    try:
        return needed(f"robustbench.{module}", "the model robustbench")
    except RequestError as error:
        raise RequestError(str(error).replace("pip install robustbench", HINT)) from None
