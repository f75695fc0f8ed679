"""DARTS, first order, on digits: a search and a retraining within minutes on a CPU."""

_base_ = ['../_base_/darts_digits.py']
