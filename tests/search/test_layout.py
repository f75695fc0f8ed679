"""Weights that keep the channels of a pixel together, on request and by default."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import mmrazor_mutators as mm


@pytest.mark.parametrize('channels_last', [True, False])
def test_a_search_lays_weights_out_and_computes_the_same(channels_last: bool) -> None:
    torch.manual_seed(0)
    supernet = mm.NasBench201Supernet(2, 3, base_channels=4, num_cells=1)
    supernet.extra = nn.Conv3d(2, 2, 1)  # No 2d convolution, and left alone.
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    images = torch.randn(4, 2, 8, 8)
    expected = supernet(images)
    before = {name: (id(p), p.detach().clone()) for name, p in supernet.named_parameters()}
    search = mm.BilevelSearch(
        supernet,
        mutator,
        nn.functional.cross_entropy,
        torch.optim.SGD(supernet.parameters(), lr=0.1),
        torch.optim.Adam(mutator.arch_params.values()),
        **({} if channels_last else {'channels_last': False}),
    )
    for name, p in supernet.named_parameters():
        assert id(p) == before[name][0]
        assert_close(p, nn.Parameter(before[name][1]), rtol=0, atol=0)
    assert_close(supernet(images), expected)
    maps = []
    supernet.last_act.register_forward_hook(lambda *args: maps.append(args[2]))
    batch = images, torch.tensor([0, 1, 2, 0])
    search.step(batch, batch)
    for feature in maps:
        assert feature.is_contiguous(memory_format=torch.channels_last) == channels_last
