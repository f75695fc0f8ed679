"""The heads under the path that MMRazor v0.2.0 has for them."""

from ..linear_head import DartsSubnetClsHead

__all__ = ['DartsSubnetClsHead']
