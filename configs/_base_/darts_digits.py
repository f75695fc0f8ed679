"""The DARTS space on digits: a search and a retraining within minutes on a CPU."""

_base_ = ['./digits.py', './search.py', './short_retraining.py']

model = dict(
    type='Darts',
    architecture=dict(
        type='DartsSupernet',
        in_channels=1,
        num_classes=10,
        base_channels=8,
        num_layers=3,
        num_nodes=3,
    ),
    mutator=dict(type='DartsMutator'),
)
train_cfg = dict(max_epochs=12)
optim_wrapper = dict(mutator=dict(optimizer=dict(lr=1e-2)))
