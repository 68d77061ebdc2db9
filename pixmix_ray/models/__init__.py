"""Networks: from pictures (N, 3, H, W) in [0, 1] to logits (N, K), normalisation included."""

from pixmix_ray.models.base import Model, Normalise, evaluation_mode
from pixmix_ray.models.cifar_resnet import CifarResNet
from pixmix_ray.models.sealed import SEAL, open_tensors, seal_tensors
from pixmix_ray.models.torchvision_models import TorchvisionModel
from pixmix_ray.models.weights import Weights, fit_weights, parse_weights, read_header, read_weights
from pixmix_ray.models.wide_resnet import WideResNet, wide_resnet

__all__ = [
    "SEAL",
    "CifarResNet",
    "Model",
    "Normalise",
    "TorchvisionModel",
    "Weights",
    "WideResNet",
    "evaluation_mode",
    "fit_weights",
    "open_tensors",
    "parse_weights",
    "read_header",
    "read_weights",
    "seal_tensors",
    "wide_resnet",
]
