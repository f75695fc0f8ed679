"""DARTS-PT beside a plain port of what the authors' `pt_project` computes, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError

Batch = tuple[Tensor, Tensor]
KINDS = ('normal', 'reduce')
NODES = {0: [0, 1], 1: [2, 3, 4]}  # Edges into each node of a cell, as `nid2eids`.
LR, MOMENTUM, TUNE = 0.1, 0.9, 2


def edge_id(kind: str, edge: int) -> str:
    node = next(n for n, edges in NODES.items() if edge in edges)
    return f'{kind}_n{node}_p{edge - NODES[node][0]}'


class Cell(nn.Module):
    """Two inputs and two nodes, of which the second keeps two of its three inputs."""

    def __init__(self, kind: str, with_none: bool) -> None:
        super().__init__()
        self.nodes = nn.ModuleList()
        for node, edges in NODES.items():
            inputs = {}
            for edge in edges:
                choices = toys.candidates()
                if not with_none:
                    del choices['none']
                op = mm.DifferentiableOP(space_id=edge_id(kind, edge), choices=choices)
                inputs[op.space_id] = nn.Sequential(op)
            self.nodes.append(
                mm.DifferentiableEdge(
                    space_id=f'{kind}_n{node}',
                    with_arch_param=False,
                    num_chosen=2,
                    choices=inputs,
                )
            )

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        states = [s0, s1]
        for node in self.nodes:
            states.append(node(list(states)))
        return states[-2] + states[-1]


class Net(nn.Module):
    def __init__(self, with_none: bool) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 4)
        self.cells = nn.ModuleList([Cell(kind, with_none) for kind in KINDS])
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        s0 = s1 = self.stem(x)
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1)
        return self.head(s1)


class Authors:
    """Weights of edges that are projected one after the other, cell kind by cell kind."""

    def __init__(self, net: Net, alphas: dict[str, Tensor]) -> None:
        self.net, self.alphas = net, alphas
        self.ops = {
            kind: [list(e[0].choices.values()) for n in c.nodes for e in n.choices.values()]
            for kind, c in zip(KINDS, net.cells, strict=True)
        }
        self.projected: dict[str, dict[int, Tensor]] = {kind: {} for kind in KINDS}
        self.seen: list[float] = []

    def weights(self, kind: str) -> Tensor:
        weights = self.alphas[kind].softmax(-1)
        for edge, fixed in self.projected[kind].items():
            weights[edge].data.copy_(fixed)
        return weights

    def forward(self, x: Tensor, given: dict[str, Tensor]) -> Tensor:
        s0 = s1 = self.net.stem(x)
        for kind in KINDS:
            weights = given.get(kind, self.weights(kind) if kind not in given else None)
            states = [s0, s1]
            for edges in NODES.values():
                total: Any = 0
                for state, edge in zip(list(states), edges, strict=True):
                    pairs = zip(weights[edge], self.ops[kind][edge], strict=True)
                    total = total + sum(w * op(state) for w, op in pairs if w != 0)
                states.append(total)
            s0, s1 = s1, states[-2] + states[-1]
        return self.net.head(s1)

    def infer(self, queue: Sequence[Batch], given: dict[str, Tensor], metric: str) -> float:
        buffers = {k: v.clone() for k, v in self.net.named_buffers()}
        bad, count = 0.0, 0
        with torch.no_grad():
            for x, y in queue:
                logits = self.forward(x, given)
                if metric == 'loss':
                    bad += float(nn.functional.cross_entropy(logits, y)) * len(y)
                else:
                    bad += float((logits.argmax(1) != y).sum())
                count += len(y)
        self.net.load_state_dict(buffers, strict=False)
        self.seen.append(bad / count)
        return bad / count

    def project_op(self, kind: str, edge: int, queue: Sequence[Batch], metric: str) -> None:
        best, extreme = 0, None
        for op in range(len(self.ops[kind][edge])):
            weights = self.weights(kind).detach()
            weights[edge, op] = 0
            bad = self.infer(queue, {kind: weights}, metric)
            if extreme is None or bad > extreme:
                best, extreme = op, bad
        self.projected[kind][edge] = torch.zeros_like(self.alphas[kind][edge].detach())
        self.projected[kind][edge][best] = 1

    def project_edge(self, kind: str, node: int, queue: Sequence[Batch], metric: str) -> None:
        edges = list(NODES[node])
        while len(edges) > 2:
            doomed, extreme = -1, None
            for edge in edges:
                weights = self.weights(kind).detach()
                weights[edge] = 0
                bad = self.infer(queue, {kind: weights}, metric)
                if extreme is None or bad <= extreme:
                    doomed, extreme = edge, bad
            edges.remove(doomed)
        for edge in NODES[node]:
            if edge not in edges:
                self.projected[kind][edge].zero_()

    def tune(
        self, train: Sequence[Batch], arch: Sequence[Batch], optimizer: Any, of_alphas: Any
    ) -> None:
        """Run an epoch of steps on the logits and on the weights, in turn."""
        for (x, y), (x_arch, y_arch) in zip(train, arch, strict=True):
            optimizer.zero_grad()
            of_alphas.zero_grad()
            nn.functional.cross_entropy(self.forward(x_arch, {}), y_arch).backward()
            of_alphas.step()
            optimizer.zero_grad()
            of_alphas.zero_grad()
            nn.functional.cross_entropy(self.forward(x, {}), y).backward()
            optimizer.step()


def batches(number: int) -> list[Batch]:
    shape = (number, 9, 3)
    return [(x, torch.randint(3, (9,))) for x in torch.randn(shape, dtype=torch.float64)]


def our_search(metric: str, with_none: bool, seed: int, **kwargs: Any) -> Any:
    torch.manual_seed(seed)
    extension = {
        'type': 'PerturbationSelection',
        'tune_epochs': TUNE,
        'metric': metric,
        'seed': seed,
        'groups': ['normal*', 'reduce*'],
        **kwargs,
    }
    supernet, mutator = toys.prepared(
        'DartsMutator', Net(with_none), extensions=[extension], ignore_choices=()
    )
    return mm.BilevelSearch(
        supernet,
        mutator,
        nn.functional.cross_entropy,
        torch.optim.SGD(supernet.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=3e-4),
        torch.optim.Adam(mutator.arch_params.values(), lr=0.05, betas=(0.5, 0.999)),
    )


def recorded(search: Any) -> list[float]:
    """Return a list that what is measured will be added to."""
    (selection,), seen = search.mutator.extensions, []
    badness: Callable[..., float] = selection.badness

    def measure(*args: Any) -> float:
        seen.append(badness(*args))
        return seen[-1]

    selection.badness = measure
    return seen


@pytest.mark.parametrize('metric', ['loss', 'accuracy'])
@pytest.mark.parametrize('with_none', [False, True])
@pytest.mark.parametrize('seed', [0, pytest.param(1, marks=pytest.mark.slow)])
def test_whole_selection(metric: str, with_none: bool, seed: int) -> None:
    search = our_search(metric, with_none, seed)
    (selection,) = search.mutator.extensions
    train, arch = batches(2), batches(2)
    net = copy.deepcopy((search.supernet, search.mutator))[0]
    for op in (m for m in net.modules() if isinstance(m, mm.MutableModule)):
        vars(op).pop('forward', None)
    alphas = {
        kind: torch.stack(
            [search.mutator.arch_params[edge_id(kind, e)].detach() for e in range(5)]
        ).requires_grad_()
        for kind in KINDS
    }
    authors = Authors(net.train(), alphas)
    optimizer = torch.optim.SGD(
        net.parameters(), lr=LR / 10, momentum=MOMENTUM, weight_decay=3e-4
    )
    of_alphas = torch.optim.Adam(alphas.values(), lr=0.05, betas=(0.5, 0.999))
    # The order is random in both; the authors' is given ours.
    operations, nodes = selection.spaces_to_decide(search.mutator)
    orders = {k: [sid for sid in operations if sid.startswith(k)] for k in KINDS}
    edges = {edge_id(kind, e): e for kind in KINDS for e in range(5)}
    assert sorted(nodes) == ['normal_n1', 'reduce_n1']
    assert orders['normal'] != sorted(orders['normal']) or seed
    tune_epochs = TUNE * (5 + 1 - 1) + 1
    for epoch in range(tune_epochs):
        if epoch % TUNE == 0 or epoch == tune_epochs - 1:
            for kind in KINDS:
                if epoch < TUNE * 5:
                    edge = edges[orders[kind][epoch // TUNE]]
                    authors.project_op(kind, edge, arch, metric)
                else:
                    authors.project_edge(kind, 1, arch, metric)
        if epoch < tune_epochs - 1:  # What follows the last projection changes none.
            authors.tune(train, arch, optimizer, of_alphas)

    seen = recorded(search)
    search.finish(train, arch)
    assert seen == pytest.approx(authors.seen, rel=1e-9)
    found = search.mutator.search_subnet()
    for kind in KINDS:
        for edge in range(5):
            sid, weights = edge_id(kind, edge), authors.projected[kind][edge]
            assert (sid in found) == bool(weights.any())
            if sid in found:
                names = search.mutator.search_spaces[sid]['choice_names']
                assert found[sid]['chosen'] == [names[int(weights.argmax())]]
    ours = dict(search.supernet.named_parameters())
    for name, param in net.named_parameters():
        # A candidate that left decays no more here; its weights play no part.
        if not name.startswith('cells'):
            assert_close(ours[name], param, rtol=1e-9, atol=1e-9)


def test_ties_are_settled_alike() -> None:
    """Where no removal hurts, the first operation and the first two inputs stay."""
    search = our_search('accuracy', True, 0, tune_epochs=0, order='given')
    with torch.no_grad():
        search.supernet.head.weight.zero_()
    arch = batches(1)
    authors = Authors(search.supernet, {})
    authors.alphas = {
        kind: torch.stack(
            [search.mutator.arch_params[edge_id(kind, e)].detach() for e in range(5)]
        )
        for kind in KINDS
    }
    for kind in KINDS:
        for edge in range(5):
            authors.project_op(kind, edge, arch, 'accuracy')
        authors.project_edge(kind, 1, arch, 'accuracy')
    search.finish(arch, arch)
    found = search.mutator.search_subnet()
    for kind in KINDS:
        kept = [e for e in range(5) if authors.projected[kind][e].any()]
        assert kept == [0, 1, 2, 3]
        assert all(authors.projected[kind][e][0] == 1 for e in kept)
        assert [e for e in range(5) if edge_id(kind, e) in found] == kept
        assert all(found[edge_id(kind, e)]['chosen'] == ['none'] for e in kept)


@pytest.mark.parametrize(('count', 'sizes'), [(1, [2] * 5 + [2]), (2, [4, 4, 2, 2])])
def test_rounds_of_groups(count: int, sizes: list[int]) -> None:
    search = our_search('loss', False, 0, spaces_per_round=count)
    (selection,) = search.mutator.extensions
    rounds = [
        r for s in selection.spaces_to_decide(search.mutator) for r in selection._rounds(s)
    ]
    assert [len(spaces) for spaces in rounds] == sizes
    for spaces in rounds:
        kinds = [space_id.split('_')[0] for space_id in spaces]
        assert kinds == sorted(kinds)
        assert kinds.count('normal') == kinds.count('reduce')


@pytest.mark.parametrize(
    ('groups', 'message'),
    [
        ('normal*', "a list of wildcards .* but got 'normal\\*'"),
        ([], r'a list of wildcards .* but got \[\]'),
        ([3], r'a list of wildcards .* but got \[3\]'),
        (['normal*'], r"\['normal\*'\] to fit every space, but none fits 'reduce_n0'"),
        (['*', 'reduce*'], r"'reduce\*' fits none that no other does before"),
        (['normal*', 'reduce*', 'redcue*'], r"'redcue\*' fits none .* did you mean"),
    ],
)
def test_groups_that_cannot_be_used(groups: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        our_search('loss', False, 0, groups=groups)
