"""Sparsemax on CIFAR-10 with the settings of DARTS (Liu et al., ICLR 2019, section 3.1).

The papers of sparsemax and entmax are not about architectures; just the map from
logits to weights is theirs.
"""

_base_ = ['../_base_/darts_cifar10.py']

model = dict(mutator=dict(type='SparsemaxMutator', alpha=2.0))
