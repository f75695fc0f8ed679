"""Image data sets, and the transforms that go with them.

They are found through the registry when a config names one; importing the
package does not import them.
"""

from .base import ImageDataset
from .cifar import CIFAR10
from .colors import ColorJitter
from .digits import Digits
from .fashion_mnist import FashionMNIST
from .image_folder import ImageFolder
from .resizing import CenterCrop, RandomResizedCrop, ResizeShortEdge
from .transforms import Cutout, Normalize, RandomCrop, RandomHorizontalFlip, Transform

__all__ = [
    'CIFAR10',
    'CenterCrop',
    'ColorJitter',
    'Cutout',
    'Digits',
    'FashionMNIST',
    'ImageDataset',
    'ImageFolder',
    'Normalize',
    'RandomCrop',
    'RandomHorizontalFlip',
    'RandomResizedCrop',
    'ResizeShortEdge',
    'Transform',
]
