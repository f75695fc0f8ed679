"""DARTS on the NAS-Bench-201 space, on Fashion-MNIST, at a size for a CPU."""

_base_ = ['../_base_/nasbench201_fashion_mnist.py']

train_cfg = dict(max_epochs=15)
