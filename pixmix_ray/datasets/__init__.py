"""Data sets with labels, and folders of pictures without: where pictures come from, decoded once a machine."""

from pixmix_ray.datasets.base import DATASETS as DATASETS
from pixmix_ray.datasets.base import Dataset as Dataset
from pixmix_ray.datasets.base import DataVersionWarning as DataVersionWarning
from pixmix_ray.datasets.base import ImageData as ImageData
from pixmix_ray.datasets.base import evenly_spaced as evenly_spaced
from pixmix_ray.datasets.base import load_cached as load_cached
from pixmix_ray.datasets.cifar import Cifar10 as Cifar10
from pixmix_ray.datasets.cifar import Cifar100 as Cifar100
from pixmix_ray.datasets.digits import Digits as Digits
from pixmix_ray.datasets.imagenet import ImageFolder as ImageFolder
from pixmix_ray.datasets.imagenet import ImageNet as ImageNet
from pixmix_ray.datasets.listing import PassedOverWarning as PassedOverWarning
from pixmix_ray.datasets.parquet import Parquet as Parquet
from pixmix_ray.datasets.picture_source import folder_images as folder_images
from pixmix_ray.datasets.picture_source import folder_version as folder_version
from pixmix_ray.datasets.picture_source import source_images as source_images
from pixmix_ray.datasets.picture_source import source_version as source_version
from pixmix_ray.datasets.places365 import Places365 as Places365
from pixmix_ray.datasets.tiny_imagenet import TinyImageNet as TinyImageNet
from pixmix_ray.datasets.web_dataset import WebDataset as WebDataset
