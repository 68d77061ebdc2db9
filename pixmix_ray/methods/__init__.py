"""Training methods: what each does to a batch of pictures, and its loss."""

from pixmix_ray.methods.adversarial import AdversarialL2 as AdversarialL2
from pixmix_ray.methods.adversarial import AdversarialLinf as AdversarialLinf
from pixmix_ray.methods.ant import Ant as Ant
from pixmix_ray.methods.augmix import AugMix as AugMix
from pixmix_ray.methods.auto_augment import AutoAugment as AutoAugment
from pixmix_ray.methods.base import METHODS as METHODS
from pixmix_ray.methods.base import Method as Method
from pixmix_ray.methods.base import MethodRun as MethodRun
from pixmix_ray.methods.base import Setup as Setup
from pixmix_ray.methods.baseline import Baseline as Baseline
from pixmix_ray.methods.cutmix import CutMix as CutMix
from pixmix_ray.methods.cutout import Cutout as Cutout
from pixmix_ray.methods.edsr import Edsr as Edsr
from pixmix_ray.methods.hybrid_augment import HybridAugment as HybridAugment
from pixmix_ray.methods.ipmix import IPMix as IPMix
from pixmix_ray.methods.layermix import LayerMix as LayerMix
from pixmix_ray.methods.mixup import Mixup as Mixup
from pixmix_ray.methods.noise2net import Noise2Net as Noise2Net
from pixmix_ray.methods.outlier_exposure import OutlierExposure as OutlierExposure
from pixmix_ray.methods.pixmix import PixMix as PixMix
from pixmix_ray.methods.pixmix_cutmix import PixMixCutMix as PixMixCutMix
from pixmix_ray.methods.prime import Prime as Prime
from pixmix_ray.methods.rand_augment import RandAugment as RandAugment
from pixmix_ray.methods.sin import Sin as Sin
from pixmix_ray.methods.speckle import Speckle as Speckle
from pixmix_ray.methods.trivial_augment import TrivialAugment as TrivialAugment
