"""GDAS on the NAS-Bench-201 space, on Fashion-MNIST, at a size for a CPU."""

_base_ = ['../_base_/nasbench201_fashion_mnist.py']

model = dict(mutator=dict(type='GDASMutator'))
