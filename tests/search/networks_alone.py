"""Trains networks in the layout of a search, and prints how far their gradients are off.

Run by ``test_layout_on_processors.py``, once for each processor: this may crash.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mmrazor_mutators as mm
from mmrazor_mutators.ops.blocks import FactorizedReduce, StandardConv
from mmrazor_mutators.search.layout import lay_out_channels_last

LAST = torch.channels_last


class Residual(nn.Module):
    """The block of a small ResNet, as a user writes it."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, 3, stride, 1, bias=False)
        self.bn = nn.BatchNorm2d(2 * channels)
        self.downsample = nn.Conv2d(channels, 2 * channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of both branches."""
        return torch.tanh(self.bn(self.conv(x)) + self.downsample(input=x))


def unsqueezed(x: Tensor) -> Tensor:
    """Return the first image as a batch made of an image of shape ``(H, W, C)``."""
    return x[0].permute(1, 2, 0).contiguous().permute(2, 0, 1).unsqueeze(0)


def networks() -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Yield names, networks and inputs."""
    for channels in (1, 2, 3, 4, 5, 6, 7, 8, 12):
        x = torch.randn(6, channels, 12, 12).contiguous(memory_format=LAST)
        for stride in (2, 3):
            name = f'{channels} channels, stride {stride}: '
            conv = nn.Conv2d(channels, 8, 1, stride)
            yield name + 'a convolution', conv, x
            yield name + 'to(channels_last)', copy.deepcopy(conv).to(memory_format=LAST), x
            yield name + 'a part of the channels', conv, x.repeat(1, 2, 1, 1)[:, :channels]
            yield (
                name + 'our convolution',
                StandardConv(channels, 8, 1, stride, norm_cfg=None),
                x,
            )
            yield name + 'a block', Residual(channels, stride), x
        reduction = FactorizedReduce(channels, 8, norm_cfg=None)
        yield f'{channels} channels: a reduction', reduction, x
    for kernel in (1, 3):
        x = torch.randn(2, 12, 16, 17)
        conv = nn.Conv2d(12, 24, kernel, padding=kernel // 2, groups=2)
        yield f'grouped {kernel}x{kernel}', conv, unsqueezed(x)
        last = copy.deepcopy(conv).to(memory_format=LAST)
        yield f'grouped {kernel}x{kernel}, to(channels_last)', last, unsqueezed(x)
    images = torch.randn(4, 3, 8, 8).contiguous(memory_format=LAST)
    shared = {'in_channels': 3, 'num_classes': 4, 'base_channels': 3}
    for name, sizes in (
        ('DartsSupernet', {'num_layers': 3, 'num_nodes': 2}),
        ('NasBench201Supernet', {'num_cells': 1}),
    ):
        supernet = mm.build_architecture({'type': name, **shared, **sizes})
        mutator = mm.build_mutator({'type': 'DartsMutator'})
        mutator.prepare_from_supernet(supernet)
        yield name, nn.ModuleList([supernet, mutator]), images


def gradients(network: nn.Module, x: Tensor) -> list[Tensor]:
    """Return the gradients of input and weights of a random function of the output."""
    x = x.detach().requires_grad_()
    run: Callable[[Tensor], Tensor] = network
    if isinstance(network, nn.ModuleList):
        run = network[0]
    torch.manual_seed(0)
    out = run(x)
    loss = (out * torch.randn(out.shape, dtype=torch.float64)).sum()
    leaves = [x, *(p for p in network.parameters() if p.requires_grad)]
    found = torch.autograd.grad(loss, leaves, allow_unused=True)
    return [g for g in found if g is not None]


def main() -> None:
    """Print a line for each network."""
    torch.set_num_threads(int(sys.argv[1]))
    torch.manual_seed(0)
    for name, network, x in networks():
        usual = copy.deepcopy(network).double().to(memory_format=torch.contiguous_format)
        exact = gradients(usual, x.double().clone(memory_format=torch.contiguous_format))
        lay_out_channels_last(network)
        found = gradients(network, x)
        pairs = zip(map(Tensor.double, found), exact, strict=True)
        off = torch.stack([F.mse_loss(*pair).sqrt() for pair in pairs])
        size = torch.stack([g.square().mean().sqrt() for g in exact])
        print('off', (off / (size + size.max() * 1e-3)).max().item(), name, flush=True)
    if len(sys.argv) > 2:
        # What is left alone: as many channels as AVX2 computes at once.
        conv, x = nn.Conv2d(8, 8, 1, 2), torch.randn(6, 8, 12, 12)
        conv(x.contiguous(memory_format=LAST)).sum().backward()


if __name__ == '__main__':
    main()
