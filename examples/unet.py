"""A U-Net that finds ink under noise, with a tenth of its parameters.

python -m examples.unet --seeds 3
"""

from __future__ import annotations

from .comparing import Task, main
from .data import noisy_digits
from .models import UNet

if __name__ == '__main__':
    main(Task('unet', UNet, noisy_digits()), __doc__)
