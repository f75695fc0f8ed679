"""Image data sets that live in memory, and the transforms that go with them.

They are found through the registry when a config names one; importing the
package does not import them.
"""

from .base import ImageDataset
from .cifar import CIFAR10
from .digits import Digits
from .fashion_mnist import FashionMNIST
from .transforms import Cutout, Normalize, RandomCrop, RandomHorizontalFlip, Transform

__all__ = [
    'CIFAR10',
    'Cutout',
    'Digits',
    'FashionMNIST',
    'ImageDataset',
    'Normalize',
    'RandomCrop',
    'RandomHorizontalFlip',
    'Transform',
]
