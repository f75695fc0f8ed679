"""A MobileNetV2-like network on digits, in 60% of its milliseconds on this device.

python -m examples.mobilenet --seeds 3
"""

from __future__ import annotations

from pathlib import Path

import mmrazor_mutators as mm
from mmrazor_mutators.costs import profile_latency

from .comparing import Task, main
from .data import digits
from .models import MobileNet

if __name__ == '__main__':
    epochs = dict(search_epochs=12, tune_epochs=12)
    task = Task('mobilenet', MobileNet, digits(), example_batch=64, **epochs)
    profile = Path(task.budget['profile'])
    supernet = mm.make_searchable(MobileNet(), task.rules, task.example_inputs)
    profile_latency(supernet, profile, report=print)
    main(task, __doc__)
