"""Convolutions of many forms: shapes, strides, groups, and how they lie in memory."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ['Form', 'all_forms', 'convolve', 'laid_out', 'sample', 'tensors_of']


class Form(NamedTuple):
    """One convolution.

    ``layout`` tells how the map lies in memory: ``'first'``, ``'last'`` (channels last),
    ``'cropped'`` and ``'sliced'`` (a part of the pixels or of the channels of a larger map
    that has the channels last), ``'odd'`` (channels last, where dimensions of size 1 have
    the stride 1, as after ``unsqueeze``).  ``weight`` tells the same of the weight.
    """

    kernel: int
    stride: int
    padding: int
    dilation: int
    channels: tuple[int, int]
    groups: int
    transposed: bool
    size: tuple[int, int]
    batch: int
    layout: str
    weight: str
    threads: int

    @property
    def family(self) -> str:
        """The row of the table that it belongs to."""
        if self.transposed:
            kind = 'transposed'
        elif self.groups == 1:
            kind = 'dense'
        else:
            kind = 'depthwise' if self.groups == self.channels[0] else 'grouped'
        strided = 'strided' if self.stride > 1 else 'stride 1'
        last = self.layout != 'first' or self.weight == 'last'
        layout = 'channels last' if last else 'channels first'
        return f'{self.kernel}x{self.kernel} {kind}, {strided}, {layout}'


def all_forms() -> Iterator[Form]:
    """Yield every form of the sweep."""
    pairs = [(1, 1), (1, 8), (2, 5), (3, 6), (4, 4), (5, 3), (6, 12), (7, 16), (8, 8)]
    pairs += [(8, 1), (9, 7), (12, 6), (15, 17), (16, 16), (17, 2)]
    sizes = (1, 1), (1, 8), (2, 3), (5, 7), (6, 6), (8, 8), (12, 12), (16, 17)
    layouts = [('first', 'first'), ('last', 'first'), ('last', 'last'), ('first', 'last')]
    layouts += [('cropped', 'first'), ('sliced', 'last'), ('odd', 'first'), ('odd', 'last')]
    kinds = 'dense', 'grouped', 'depthwise'
    outer = product((1, 3, 5, 7), (1, 2, 3), (1, 2), pairs, kinds)
    for kernel, stride, dilation, (ins, outs), kind in outer:
        groups, transposed = 1, False
        if kind == 'depthwise':
            outs = groups = ins
        elif kind == 'grouped':
            ins, outs, groups = 2 * ins, 2 * outs, 2
        if kernel == 1 and dilation > 1:
            if kind == 'depthwise':
                continue
            transposed, dilation = True, 1
        for size, batch, threads, (layout, weight) in product(sizes, (1, 6), (1, 2), layouts):
            steps = kernel, stride, kernel // 2 * dilation, dilation
            shape = (ins, outs), groups, transposed, size, batch
            yield Form(*steps, *shape, layout, weight, threads)


def sample(count: int) -> list[Form]:
    """Return forms drawn at random, half of them strided 1x1 with the channels last."""
    forms = list(all_forms())
    pointwise = [f for f in forms if f.kernel == 1 and f.stride > 1 and f.layout != 'first']
    draw = random.Random(0)
    chosen = draw.sample(pointwise, count // 2) + draw.sample(forms, count - count // 2)
    return list(dict.fromkeys(chosen))


def tensors_of(form: Form) -> list[Tensor]:
    """Return random map, weight, gradient of the output, and a partner for each gradient."""
    made = torch.Generator().manual_seed(0)
    ins, outs = form.channels
    sides = (outs, ins) if not form.transposed else (ins, outs)
    shape = sides[0], sides[1] // form.groups, form.kernel, form.kernel
    x = torch.randn(form.batch, ins, *form.size, generator=made)
    weight = torch.randn(shape, generator=made)
    out = convolve(form, x.double(), weight.double())
    grad = torch.randn(out.shape, generator=made)
    u, v = torch.randn(x.shape, generator=made), torch.randn(shape, generator=made)
    return [x, weight, grad, u, v]


def convolve(form: Form, x: Tensor, weight: Tensor) -> Tensor:
    """Run the form."""
    if form.transposed:
        return F.conv_transpose2d(x, weight, None, form.stride, form.padding, 0, form.groups)
    steps = form.stride, form.padding, form.dilation
    return F.conv2d(x, weight, None, *steps, form.groups)


def laid_out(x: Tensor, layout: str) -> Tensor:
    """Return the same values, laid out in memory as the form says."""
    if layout == 'first':
        return x.contiguous()
    batch, channels, height, width = x.shape
    rows, columns, depth = height, width, channels
    if layout == 'cropped':
        rows, columns = height + 1, width + 2
    elif layout == 'sliced':
        depth = channels + 3
    base = x.new_zeros((batch, rows, columns, depth)).permute(0, 3, 1, 2)
    part = base[:, :channels, rows - height :, columns - width :]
    part.copy_(x)
    if layout == 'odd':
        steps = zip(part.shape, part.stride(), strict=True)
        part = part.as_strided(part.shape, [step if n > 1 else 1 for n, step in steps])
    return part
