"""Benchmarks: one file a safety measure, each one pass of the network and metrics from its predictions."""

from pixmix_ray.benchmarks.adversaries import Adversaries as Adversaries
from pixmix_ray.benchmarks.anomalies import Anomalies as Anomalies
from pixmix_ray.benchmarks.base import BENCHMARKS as BENCHMARKS
from pixmix_ray.benchmarks.base import SMALL as SMALL
from pixmix_ray.benchmarks.base import Benchmark as Benchmark
from pixmix_ray.benchmarks.base import TestPictures as TestPictures
from pixmix_ray.benchmarks.base import classify as classify
from pixmix_ray.benchmarks.base import finite_logits as finite_logits
from pixmix_ray.benchmarks.base import limited_batches as limited_batches
from pixmix_ray.benchmarks.base import passes as passes
from pixmix_ray.benchmarks.base import pictures_that_fit as pictures_that_fit
from pixmix_ray.benchmarks.base import to_device as to_device
from pixmix_ray.benchmarks.clean import Clean as Clean
from pixmix_ray.benchmarks.consistency import Consistency as Consistency
from pixmix_ray.benchmarks.corruptions import Corruptions as Corruptions
from pixmix_ray.benchmarks.corruptions_bar import CorruptionsBar as CorruptionsBar
from pixmix_ray.benchmarks.measures import error_of as error_of
from pixmix_ray.benchmarks.natural_shifts import NaturalShifts as NaturalShifts
from pixmix_ray.benchmarks.renditions import Renditions as Renditions
