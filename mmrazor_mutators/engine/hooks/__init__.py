"""What happens around the steps of a job; one hook a file."""

from .checkpoint import CheckpointHook
from .drop_path import DropPathProbHook
from .epoch_seed import EpochSeedHook
from .monitor import SearchMonitorHook
from .peak_memory import PeakMemoryHook
from .progress import ProgressHook
from .search_subnet import SearchSubnetHook
from .stopping import StopHook

__all__ = [
    'CheckpointHook',
    'DropPathProbHook',
    'EpochSeedHook',
    'PeakMemoryHook',
    'ProgressHook',
    'SearchMonitorHook',
    'SearchSubnetHook',
    'StopHook',
]
