"""Benchmarks: one file a safety measure, each one pass of the network and metrics from its predictions."""

from pixmix_ray.benchmarks.adversaries import Adversaries
from pixmix_ray.benchmarks.anomalies import Anomalies
from pixmix_ray.benchmarks.base import Benchmark, TestPictures, classify, limited_batches
from pixmix_ray.benchmarks.clean import Clean, error_of
from pixmix_ray.benchmarks.consistency import Consistency
from pixmix_ray.benchmarks.corruptions import Corruptions
from pixmix_ray.benchmarks.corruptions_bar import CorruptionsBar
from pixmix_ray.benchmarks.renditions import Renditions

__all__ = [
    "Adversaries",
    "Anomalies",
    "Benchmark",
    "Clean",
    "Consistency",
    "Corruptions",
    "CorruptionsBar",
    "Renditions",
    "TestPictures",
    "classify",
    "error_of",
    "limited_batches",
]
