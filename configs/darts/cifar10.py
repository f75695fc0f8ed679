"""DARTS on CIFAR-10 with the settings of the paper (Liu et al., ICLR 2019, section 3.1)."""

_base_ = ['../_base_/darts_cifar10.py']
