"""mmengine's Runner: Runner(Search(), ..., custom_hooks=[KeepSearch()]), as the tests do."""

from mmengine.hooks import Hook
from torch import nn
from torch.nn.functional import cross_entropy

from mmrazor_mutators import BilevelSearch

from .setting import build


class Search(nn.Module):
    """Steps by the two optimizers of an ``OptimWrapperDict``."""

    search = state = None

    def __init__(self):
        super().__init__()
        self.supernet, self.mutator = self.parts = build()

    def train_step(self, data, optim_wrapper):
        return self.search.step(*data)


class KeepSearch(Hook):
    """Keeps what the host does not: draws, and where the search is."""

    def before_train(self, runner):
        both = (runner.optim_wrapper[name].optimizer for name in ('weights', 'arch'))
        search = runner.model.search = BilevelSearch(*runner.model.parts, cross_entropy, *both)
        search.load_state_dict(runner.model.state or search.state_dict())

    def before_train_epoch(self, runner):
        runner.model.search.on_epoch(runner.epoch, 10)

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint['search'] = runner.model.search.state_dict()

    def after_load_checkpoint(self, runner, checkpoint):
        runner.model.state = checkpoint['search']
