"""Lightning: trainer.fit(Search(), loader()) with a trainer of your own."""

import lightning
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import CosineAnnealingLR

from mmrazor_mutators import BilevelSearch

from .setting import build, optimizers


class Search(lightning.LightningModule):
    """Steps by ``self.optimizers()``: what they do is counted, and so checkpoints are saved."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization, self.state = False, None
        self.supernet, self.mutator = self.parts = build()

    def configure_optimizers(self):
        weights, arch = optimizers(self.supernet, self.mutator)
        return [weights, arch], [CosineAnnealingLR(weights, T_max=10)]

    def on_train_start(self):
        self.search = BilevelSearch(*self.parts, cross_entropy, *self.optimizers())
        self.search.load_state_dict(self.state or self.search.state_dict())

    def training_step(self, batch, index):
        if index == 0:
            self.search.on_epoch(self.current_epoch, 10)
        self.log_dict(self.search.step(*batch))

    def on_train_epoch_end(self):
        self.lr_schedulers().step()

    def on_save_checkpoint(self, checkpoint):
        checkpoint['search'] = self.search.state_dict()

    def on_load_checkpoint(self, checkpoint):
        self.state = checkpoint['search']
