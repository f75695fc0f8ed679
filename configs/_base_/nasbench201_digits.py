"""The NAS-Bench-201 space on digits: a search and a retraining within minutes on a CPU."""

_base_ = ['./digits.py', './search.py', './short_retraining.py']

model = dict(
    type='Darts',
    architecture=dict(
        type='NasBench201Supernet',
        in_channels=1,
        num_classes=10,
        base_channels=8,
        num_cells=1,
    ),
    mutator=dict(type='DartsMutator', ignore_choices=()),
)
train_cfg = dict(max_epochs=12)
optim_wrapper = dict(mutator=dict(optimizer=dict(lr=1e-2)))
