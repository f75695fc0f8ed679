"""GDAS on Fashion-MNIST, at a size for a CPU."""

_base_ = ['../_base_/darts_fashion_mnist.py']

# On this space the authors lend no gradient to what was not drawn, and pools have no norm.
model = dict(
    architecture=dict(pool_norm=False),
    mutator=dict(type='GDASMutator', tau_max=10.0, tau_min=0.1, lend_unchosen=False),
)
