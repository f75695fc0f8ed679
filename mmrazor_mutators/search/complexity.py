"""What a subnet costs, read off the modules of its supernet."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..errors import ConfigError, HostError
from ..mutables import MutableModule, find_mutables, live_modules, match_subnet
from ..typing import Subnet
from .guards import in_mode

__all__ = ['SubnetCosts', 'module_flops']


def module_flops(network: nn.Module, input_shape: Sequence[int]) -> dict[str, int]:
    """Count the multiply-adds of every module for one image, those inside of it left out.

    By the counter of mmengine, in eval mode: convolutions, matrix products,
    norms and adaptive poolings.

    Args:
        network: What to count; nothing in it changes.
        input_shape: Of an image, as ``(C, H, W)``.

    Returns:
        ``{name of a module: multiply-adds}``.

    Raises:
        ConfigError: Images of that shape do not pass the network.
        HostError: There is no mmengine.
    """
    try:
        from mmengine.analysis import FlopAnalyzer
    except ImportError as error:
        raise HostError(
            f'Counting FLOPs needs mmengine, which cannot be imported here ({error}). Install '
            'it with: pip install "mmengine>=0.10"'
        ) from error
    like = next(network.parameters(), torch.empty(0))
    image = torch.zeros(1, *input_shape, device=like.device, dtype=like.dtype)
    counter = FlopAnalyzer(network, image)
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    counter.tracer_warnings('none')
    try:
        with in_mode(network, training=False), warnings.catch_warnings():
            warnings.simplefilter('ignore')  # The tracer warns of shapes that are looked at.
            totals = counter.by_module()
    except Exception as error:  # Whatever a network raises that does not take the image.
        raise ConfigError(
            f'Images of the shape {tuple(input_shape)} do not pass {type(network).__name__}: '
            f'{error}; give their shape (C, H, W) as `input_shape`'
        ) from error
    own = {}
    for name, module in network.named_modules():
        children = [
            f'{name}.{child}' if name else child for child, _ in module.named_children()
        ]
        own[name] = totals[name] - sum(totals[child] for child in children)
    return own


class SubnetCosts:
    """Tells the FLOPs and parameters of any subnet, after one pass of the supernet.

    The FLOPs (multiply-adds, as for :func:`module_flops`) and parameters of the
    modules that the subnet runs are added up, as MMRazor v0.2.0 does; a subnet
    that is exported has the same ones.

    Args:
        supernet: With its mutables, whose masks are as they were afterwards.
        input_shape: Of an image, as ``(C, H, W)``.

    Raises:
        ConfigError: Images of that shape do not pass the supernet.
    """

    def __init__(self, supernet: nn.Module, input_shape: Sequence[int]) -> None:
        self.supernet = supernet
        mutables = list(find_mutables(supernet))
        masks = [mutable.choice_mask for mutable in mutables]
        try:
            for mutable, mask in zip(mutables, masks, strict=True):
                mutable.choice_mask = torch.ones_like(mask)
            self._flops = module_flops(supernet, input_shape)
        finally:
            for mutable, mask in zip(mutables, masks, strict=True):
                mutable.choice_mask = mask

    def __call__(self, subnet: Subnet | None = None) -> dict[str, float]:
        """Return ``{'flops': multiply-adds of an image, 'params': weights}``.

        Args:
            subnet: Which, by default the one that the masks let run.

        Raises:
            SubnetError: It does not fit the supernet.
        """
        if subnet is None:
            modules = self._live(lambda mutable: mutable.active_names)
        else:
            chosen = {id(m): names for m, names in match_subnet(self.supernet, subnet)}
            modules = self._live(lambda mutable: chosen[id(mutable)])
        names = {id(module): name for name, module in self.supernet.named_modules()}
        params = {
            id(param): param.numel()
            for module in modules
            for param in module.parameters(recurse=False)
        }
        flops = sum(self._flops.get(names[id(module)], 0) for module in modules)
        return {'flops': float(flops), 'params': float(sum(params.values()))}

    def _live(self, choose: Any) -> list[nn.Module]:
        def of(mutable: MutableModule) -> tuple[str, ...]:
            return tuple(choose(mutable))

        return list(live_modules([self.supernet], of))
