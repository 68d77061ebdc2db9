"""Clean error, calibration and proper scores on the unchanged test pictures (paper §3.1 and Tables 6 to 9)."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from pixmix_ray.benchmarks.base import BENCHMARKS, Benchmark, TestPictures, classify
from pixmix_ray.benchmarks.extras import PROPER_SCORES
from pixmix_ray.benchmarks.measures import RELIABILITY, calibration_of, error_of, proper_scores_of
from pixmix_ray.metrics import Extra, Measurement, Predictions


@BENCHMARKS.add("clean")
class Clean(Benchmark):
    """The test set as it is."""

    summary: ClassVar[str] = "error, calibration and proper scores on the unchanged test pictures"
    source: ClassVar[str] = "PixMix §3.1"
    headline: ClassVar[tuple[str, ...]] = ("error", "rms_calibration_error")
    revision: ClassVar[int] = 2  # 1 had error and RMS calibration error alone
    extras: ClassVar[Mapping[str, Extra]] = PROPER_SCORES

    def predict(self, network: nn.Module, test: TestPictures, device: torch.device) -> Predictions:
        """One forward pass over the test pictures."""
        return classify(network, test, device, extras=self.extras)

    def measure(self, predictions: Predictions) -> list[Measurement]:
        """Error, the calibration errors, soft F1, AURRA, negative log-likelihood and Brier score."""
        return [
            error_of(predictions),
            *calibration_of(predictions),
            *calibration_of(predictions, measures=RELIABILITY),
            *proper_scores_of(predictions),
        ]
