"""A one-dimensional convolutional network on series, with a tenth of its multiply-adds.

python -m examples.series --seeds 3
"""

from __future__ import annotations

from .comparing import Task, main
from .data import scanned_digits
from .models import Series

if __name__ == '__main__':
    main(Task('series', Series, scanned_digits()), __doc__)
