"""GDAS on Fashion-MNIST, at a size for a CPU."""

_base_ = ['../_base_/darts_fashion_mnist.py']

model = dict(mutator=dict(type='GDASMutator', tau_max=10.0, tau_min=0.1))
