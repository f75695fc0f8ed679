"""DARTS on NAS-Bench-201 with the settings of the benchmark (Dong & Yang, ICLR 2020)."""

_base_ = ['../_base_/nasbench201_cifar10.py']
