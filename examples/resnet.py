"""A ResNet on digits, with a fiftieth of its parameters.

python -m examples.resnet --seeds 3
"""

from __future__ import annotations

from .comparing import Task, main
from .data import digits
from .models import ResNet

if __name__ == '__main__':
    main(Task('resnet', ResNet, digits()), __doc__)
