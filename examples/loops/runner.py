"""mmengine's Runner: Runner(Search(), ..., custom_hooks=[KeepSearch()]), as the tests do."""

from mmengine.hooks import Hook
from torch import nn
from torch.nn.functional import cross_entropy

import mmrazor_mutators as mm

from .setting import build


class Search(nn.Module):
    """Steps by the two optimizers of an ``OptimWrapperDict``."""

    search = state = None

    def __init__(self):
        super().__init__()
        self.supernet, self.mutator = build()

    def train_step(self, data, optim_wrapper):
        if self.search is None:
            both = (optim_wrapper[name].optimizer for name in ('weights', 'arch'))
            self.search = mm.BilevelSearch(self.supernet, self.mutator, cross_entropy, *both)
            if self.state is not None:
                self.search.load_state_dict(self.state)
        return self.search.step(*data)


class KeepSearch(Hook):
    """Keeps what the host does not: draws, and where the search is."""

    def before_train_epoch(self, runner):
        runner.model.mutator.on_epoch(runner.epoch, 10)

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint['search'] = runner.model.search.state_dict()

    def after_load_checkpoint(self, runner, checkpoint):
        runner.model.state = checkpoint['search']
