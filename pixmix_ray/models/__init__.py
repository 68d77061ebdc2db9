"""Networks: from pictures (N, 3, H, W) in [0, 1] to logits (N, K), normalisation included."""

from pixmix_ray.models.base import MODELS as MODELS
from pixmix_ray.models.base import Model as Model
from pixmix_ray.models.base import Normalise as Normalise
from pixmix_ray.models.base import checked_logits as checked_logits
from pixmix_ray.models.base import evaluation_mode as evaluation_mode
from pixmix_ray.models.base import resized as resized
from pixmix_ray.models.cifar_resnet import CifarResNet as CifarResNet
from pixmix_ray.models.exported import Exported as Exported
from pixmix_ray.models.exported import TorchScript as TorchScript
from pixmix_ray.models.function import FunctionModel as FunctionModel
from pixmix_ray.models.onnx import Onnx as Onnx
from pixmix_ray.models.robustbench_model import RobustBenchModel as RobustBenchModel
from pixmix_ray.models.timm_model import TimmModel as TimmModel
from pixmix_ray.models.torchvision_models import TorchvisionModel as TorchvisionModel
from pixmix_ray.models.transformers_model import TransformersModel as TransformersModel
from pixmix_ray.models.weights import SEAL as SEAL
from pixmix_ray.models.weights import Weights as Weights
from pixmix_ray.models.weights import content_of as content_of
from pixmix_ray.models.weights import fit_weights as fit_weights
from pixmix_ray.models.weights import open_tensors as open_tensors
from pixmix_ray.models.weights import parse_weights as parse_weights
from pixmix_ray.models.weights import read_header as read_header
from pixmix_ray.models.weights import read_weights as read_weights
from pixmix_ray.models.weights import seal_tensors as seal_tensors
from pixmix_ray.models.wide_resnet import WideResNet as WideResNet
from pixmix_ray.models.wide_resnet import wide_resnet as wide_resnet
