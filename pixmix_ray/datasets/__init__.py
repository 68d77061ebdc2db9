"""Data sets with labels, and folders of pictures without: where pictures come from, decoded once a machine."""

from pixmix_ray.datasets.base import Dataset, DataVersionWarning, ImageData, evenly_spaced, load_cached
from pixmix_ray.datasets.cifar import Cifar10, Cifar100
from pixmix_ray.datasets.digits import Digits
from pixmix_ray.datasets.folders import folder_images, folder_version
from pixmix_ray.datasets.imagenet import ImageFolder, ImageNet
from pixmix_ray.datasets.listing import PassedOverWarning
from pixmix_ray.datasets.picture_source import source_images, source_version

__all__ = [
    "Cifar10",
    "Cifar100",
    "DataVersionWarning",
    "Dataset",
    "Digits",
    "ImageData",
    "ImageFolder",
    "ImageNet",
    "PassedOverWarning",
    "evenly_spaced",
    "folder_images",
    "folder_version",
    "load_cached",
    "source_images",
    "source_version",
]
