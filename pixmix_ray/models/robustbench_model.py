"""The networks of RobustBench's model zoo, by their names there; their normalisation is their own."""

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from torch import nn

from pixmix_ray.errors import RequestError, UnknownNameError, one_line
from pixmix_ray.models.base import MODELS
from pixmix_ray.models.prepared import PreparedModel, needed

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
    threat_model: Literal["Linf", "L2", "corruptions", "corruptions_3d"] = "Linf"

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
        file = Path("models") / self.zoo / self.threat_model / f"{self.arch}.pt"
        if not file.is_file():
            self._entry()
            try:
                _zoo("utils").load_model(self.arch, dataset=self.zoo, threat_model=self.threat_model)
            except Exception as error:  # a network, and other people's code
                raise RequestError(
                    f"weights of {self.arch} cannot be downloaded ({type(error).__name__}: {one_line(error)}): fetch "
                    "them on a machine with a network, and give the file as weights"
                ) from None
        return self, file.resolve()

    def _entry(self) -> dict[str, Any]:
        zoo = _zoo("model_zoo").model_dicts
        of_data = {getattr(key, "value", key): value for key, value in zoo.items()}[self.zoo]
        found: dict[str, Any] = {getattr(key, "value", key): value for key, value in of_data.items()}.get(
            self.threat_model, {}
        )
        if self.arch not in found:
            raise UnknownNameError("arch", self.arch, found)
        entry: dict[str, Any] = found[self.arch]
        if not callable(entry.get("model")):
            raise RequestError(f"{self.arch} is an ensemble, whose weights are several files: evaluate its members")
        return entry


def _zoo(module: str) -> Any:
    try:
        return needed(f"robustbench.{module}", "the model robustbench")
    except RequestError as error:
        raise RequestError(str(error).replace("pip install robustbench", HINT)) from None
