"""DARTS with early stopping (Zela et al., ICLR 2020), on digits."""

_base_ = ['../_base_/darts_digits.py']

model = dict(mutator=dict(extensions=[dict(type='HessianEarlyStopping', start_epoch=3)]))
train_cfg = dict(max_epochs=20)
