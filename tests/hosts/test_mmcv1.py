"""The core on mmcv 1.x: its tests once more, in an environment that has that host.

``make install-mmcv1`` makes one in ``.venv-mmcv1``; the environment variable
``MMRAZOR_MUTATORS_MMCV1_PYTHON`` names the Python of another one. A part of the tests runs
with all others; ``make test-mmcv1`` runs the rest.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mmrazor_mutators import host

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = 'MMRAZOR_MUTATORS_MMCV1_PYTHON'
DEFAULT = ROOT / '.venv-mmcv1' / 'bin' / 'python'

QUICK = [
    'tests/hosts',
    'tests/core/test_registry.py',
    'tests/core/test_configs.py',
    'tests/core/test_optim.py',
]
"""What the host itself does: how it is met, registries, configs, optimizers, steps with it."""

PARTS = {
    'networks': ['tests/mutables', 'tests/architectures', 'tests/ops'],
    'search': [
        'tests/search/test_bilevel.py',
        'tests/search/test_hypergradients_on_supernets.py',
        'tests/search/test_in_place.py',
        'tests/search/test_search_errors.py',
        'tests/search/test_search_state.py',
    ],
    'mutators': ['tests/mutators', 'tests/test_contract.py', 'tests/test_export.py'],
    'extensions': ['tests/extensions'],
}
"""What else is tested there, for minutes; test modules that need mmengine are left out.

What never meets the host, as the pure functions and how a pass is run, would tell nothing
new.
"""

# Prints what a short search finds; with the same seed it is the same on every host.
SEARCH = """
import json, torch
import mmrazor_mutators as mm
from mmrazor_mutators import host

torch.manual_seed(0)
mutators = ['DartsMutator', 'GDASMutator', 'PCDartsMutator']
found = {'host': host.NAME}
for name in mutators:
    supernet = mm.build_architecture(
        dict(type='DartsSupernet', in_channels=3, num_classes=4, base_channels=8, num_layers=2)
    )
    mutator = mm.build_mutator(dict(type=name))
    mutator.prepare_from_supernet(supernet)
    search = mm.BilevelSearch(
        supernet,
        mutator,
        torch.nn.CrossEntropyLoss(),
        torch.optim.SGD(supernet.parameters(), lr=0.1, momentum=0.9),
        torch.optim.Adam(mutator.parameters(), lr=0.1),
    )
    batches = [(torch.randn(4, 3, 8, 8), torch.randint(4, (4,))) for _ in range(4)]
    losses = [float(search.step(*pair)['loss']) for pair in (batches[:2], batches[2:])]
    logits = [p.tolist() for p in mutator.parameters()]
    found[name] = [losses, logits, mutator.search_subnet()]
print(json.dumps(found))
"""


@pytest.fixture(scope='module')
def python() -> str:
    """Return the Python that has mmcv 1.x; the tests of this module skip without one."""
    if host.NAME == 'mmcv1':
        pytest.skip('these are the tests that run the others on mmcv 1.x')
    named = os.environ.get(VARIABLE)
    if named:
        if not Path(named).is_file():
            pytest.fail(f'{VARIABLE} names {named!r}, which is no file')
        return named
    if not DEFAULT.is_file():
        pytest.skip(f'no Python with mmcv 1.x: "make install-mmcv1", or set {VARIABLE}')
    return str(DEFAULT)


@pytest.fixture
def environment(tmp_path: Path, python: str) -> dict[str, str]:
    """Return variables with which that Python finds the package and the plugin."""
    paths = [ROOT, ROOT / 'tests' / 'hosts']
    probe = "import importlib.util as i; print(i.find_spec('torchvision') is not None)"
    if 'True' not in run(python, '-c', probe, env={**os.environ}).stdout:
        # mmcv 1.x imports torchvision, and uses it for nothing that is tested here.
        (tmp_path / 'torchvision').mkdir()
        (tmp_path / 'torchvision' / '__init__.py').touch()
        paths.append(tmp_path)
    own = {name: value for name, value in os.environ.items() if not name.startswith('PYTEST_')}
    return {**own, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.pathsep.join(map(str, paths))}


def run(python: str, *arguments: str, env: dict[str, str]) -> Any:
    return subprocess.run(
        [python, *arguments],
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=880,
    )


def passes(python: str, paths: list[str], environment: dict[str, str]) -> None:
    options = ['-p', 'no:cacheprovider', '-p', 'without_mmengine', '--tb=short']
    done = run(python, '-m', 'pytest', *options, *paths, env=environment)
    assert done.returncode == 0, done.stdout[-10_000:]
    assert "host: mmcv1 {'mmcv': '1." in done.stdout
    assert ' passed' in done.stdout


@pytest.mark.slow  # As all here: `make test-mmcv1` runs them.
@pytest.mark.timeout(900)  # A busy machine; alone, each takes half a minute.
def test_what_meets_the_host(python: str, environment: dict[str, str]) -> None:
    passes(python, QUICK, environment)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize('part', PARTS)
def test_the_core(part: str, python: str, environment: dict[str, str]) -> None:
    passes(python, PARTS[part], environment)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_search_finds_the_same(python: str, environment: dict[str, str], capsys: Any) -> None:
    done = run(python, '-c', SEARCH, env=environment)
    assert done.returncode == 0, done.stdout
    exec(SEARCH, {})
    ours, theirs = json.loads(done.stdout), json.loads(capsys.readouterr().out)
    assert [ours.pop('host'), theirs.pop('host')] == ['mmcv1', 'mmengine']
    for name, (losses, logits, subnet) in theirs.items():
        # Two versions of torch need not round alike.
        assert ours[name][0] == pytest.approx(losses, rel=1e-4), name
        for one, other in zip(ours[name][1], logits, strict=True):
            assert one == pytest.approx(other, rel=1e-3, abs=1e-5), name
        assert list(ours[name][2]) == list(subnet)
