"""Mutators, searches and subnets as tables."""

from __future__ import annotations

import copy
from html.parser import HTMLParser
from typing import Any

import pytest
import torch
import toys
from torch import nn

import mmrazor_mutators as mm
from mmrazor_mutators.errors import InputError, SubnetError
from mmrazor_mutators.sheets import Sheet


class Cells(HTMLParser):
    """Collects the cells of a table, and whether its tags are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_sheet_fits_80_columns_and_escapes_what_it_shows() -> None:
    rows = [['<a & b>', 'one two ' * 30], ['c', '']]
    sheet = Sheet('A title', ['name', 'what'], rows)
    lines = repr(sheet).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) > 5
    assert ' '.join(repr(sheet).split()).count('one two') == 30
    found = Cells(sheet._repr_html_())
    assert not found.open
    assert found.texts == ['A title', 'name', 'what', '<a & b>', 'one two ' * 30, 'c']


@pytest.mark.parametrize(
    'name', ['DartsMutator', 'GDASMutator', 'RandomMutator', 'PCDartsMutator']
)
def test_mutators_show_spaces_choices_and_weights(name: str) -> None:
    mutator = mm.build_mutator({'type': name})
    assert repr(mutator).startswith(f'{name}(')
    assert mutator.summary().rows == ()
    supernet = toys.ToySupernet(node_has_param=True)
    mutator.prepare_from_supernet(supernet)
    state = torch.get_rng_state()
    text, sheet = repr(mutator), mutator.summary()
    assert torch.equal(state, torch.get_rng_state())
    assert text == repr(sheet)
    assert text == repr(mm.summary(mutator))
    assert [row[0] for row in sheet.rows] == list(mutator.search_spaces)
    for (_, chooses, told), space in zip(
        sheet.rows, mutator.search_spaces.values(), strict=True
    ):
        names = space['choice_names']
        assert chooses == f'{space["num_chosen"]} of {len(names)}'
        assert sorted(part.rpartition(' ')[0] for part in told.split(', ')) == sorted(names)
    assert repr(copy.deepcopy(mutator)) == text
    assert not Cells(mutator._repr_html_()).open


def test_the_likeliest_choice_comes_first() -> None:
    _, mutator = toys.prepared('DartsMutator')
    with torch.no_grad():
        mutator.arch_params['widen'].copy_(torch.arange(len(mutator.arch_params['widen'])))
    row = next(row for row in mutator.summary().rows if row[0] == 'widen')
    names = mutator.search_spaces['widen']['choice_names']
    shares = torch.arange(float(len(names))).softmax(0).tolist()
    told = [f'{name} {share:.0%}' for name, share in zip(names, shares, strict=True)]
    assert row[2] == ', '.join(reversed(told))


def test_a_search_shows_what_it_works_with() -> None:
    supernet = mm.DifferentiableOP(
        space_id='a', choices={'x': nn.Linear(2, 1), 'y': nn.Linear(2, 1)}
    )
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    search = mm.BilevelSearch(
        supernet,
        mutator,
        nn.functional.mse_loss,
        torch.optim.SGD(supernet.parameters(), lr=0.1),
        torch.optim.Adam(mutator.arch_params.values(), lr=3e-4),
        grad_clip=5.0,
    )
    batch = torch.ones(4, 2), torch.zeros(4, 1)
    search.step(batch, batch)
    rows = dict(mm.summary(search).rows)
    assert repr(search).startswith('BilevelSearch\n')
    assert rows['supernet'] == 'DifferentiableOP, 6 weights in training'
    assert rows['mutator'] == 'DartsMutator, 1 space, 2 architecture parameters'
    assert rows['weights by'] == 'SGD, lr 0.1'
    assert rows['architecture by'] == 'Adam, lr 0.0003'
    assert rows['hypergradient'] == 'FirstOrder'
    assert rows['gradients up to'] == '5.0'
    assert rows['done'] == f'epoch 0, iteration {search.iteration}'
    assert search.iteration == 1
    assert 'FirstOrder' in Cells(search._repr_html_()).texts


def test_subnets_show_cells_and_other_spaces() -> None:
    subnet = {
        'normal_n2': {'chosen': ['normal_n2_p1']},
        'normal_n2_p1': {'chosen': ['sep_conv_3x3'], 'chosen_probs': [0.25]},
        'node': {'chosen': ['p0', 'p2']},
    }
    assert mm.summary(subnet).rows == (
        ('c_{k-1} -> 0', 'sep_conv_3x3 0.250'),
        ('0 -> output', 'concat'),
        ('node', 'p0, p2'),
    )
    with pytest.raises(SubnetError, match="space 'a'"):
        mm.summary({'a': 3})
    with pytest.raises(InputError, match='summed up, but got int'):
        mm.summary(3)
