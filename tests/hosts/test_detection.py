"""Which host is chosen, and what is said where none can work."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from mmrazor_mutators import host
from mmrazor_mutators.errors import HostError
from mmrazor_mutators.host.detection import choose_host, describe, unusable, version_of

MISSING = ModuleNotFoundError("No module named 'it'", name='it')

BROKEN = [
    (None, None, 'mmrazor_mutators needs mmengine,'),
    ('0.10.7', None, 'needs mmcv 2.x or mmcv-lite 2.x,'),
    ('0.9.0', '2.2.0', 'but got mmengine 0.9.0.'),
    ('0.10.7', '1.4.0', 'but got mmcv 1.4.0.'),
    ('0.10.7', '2.2.0', 'found mmengine 0.10.7 and mmcv 2.2.0, of which something'),
    (None, '1.7.2', 'found mmcv 1.7.2, of which something'),
]
"""Versions of mmengine and mmcv as empty packages, and what importing ours then says."""

IMPORTS = """
import json, sys, types

def fake(name, version):
    sys.modules[name] = None if version is None else types.ModuleType(name)
    if version is not None:
        sys.modules[name].__version__ = version

for mmengine, mmcv, _ in json.loads(sys.argv[1]):
    fake('mmengine', mmengine)
    fake('mmcv', mmcv)
    for name in [name for name in sys.modules if name.startswith('mmrazor_mutators')]:
        del sys.modules[name]
    try:
        import mmrazor_mutators
        mmrazor_mutators.DartsMutator
    except ImportError as error:
        print(f'{type(error).__module__}.{type(error).__name__}: {error}')
"""


@pytest.mark.parametrize(
    ('mmengine', 'mmcv', 'name'),
    [
        ('0.10.7', '2.2.0', 'mmengine'),
        ('0.10.0', '2.0.0rc4', 'mmengine'),
        ('1.0.0', '3.1', 'mmengine'),
        ('0.10.7', '1.7.2', 'mmcv1'),
        ('0.1.0', '1.7.2', 'mmcv1'),
        (MISSING, '1.7.2', 'mmcv1'),
        (MISSING, '1.5.0', 'mmcv1'),
        (MISSING, '1.10.0', 'mmcv1'),
    ],
)
def test_what_can_work_is_chosen(mmengine: Any, mmcv: Any, name: str) -> None:
    assert choose_host(mmengine, mmcv) == name


@pytest.mark.parametrize(
    ('mmengine', 'mmcv', 'message'),
    [
        (MISSING, MISSING, r'needs mmengine, .*No module named .it.*"mmengine>=0\.10"'),
        (
            '0.10.7',
            MISSING,
            r'needs mmcv 2\.x or mmcv-lite 2\.x, .*"mmcv-lite>=2\.0" \(or mmcv',
        ),
        (MISSING, '2.2.0', r'needs mmengine, .*"mmengine>=0\.10"'),
        (
            '0.9.9',
            '2.2.0',
            r'^Expected mmengine 0\.10 or newer, but got mmengine 0\.9\.9\. Try',
        ),
        (MISSING, '1.4.8', r'^Expected mmcv 1\.5 or newer, but got mmcv 1\.4\.8\. Try: pip'),
        (
            '0.10.7',
            '1.4.8',
            r'but got mmcv 1\.4\.8\. Try: .*"mmcv>=1\.5,<2".*"mmcv-lite>=2\.0"',
        ),
        ('0.10.7', '0.6.2', r'^Expected mmcv 1\.5 or newer, but got mmcv 0\.6\.2'),
    ],
)
def test_what_cannot_work_is_named(mmengine: Any, mmcv: Any, message: str) -> None:
    with pytest.raises(HostError, match=message):
        choose_host(mmengine, mmcv)


def test_importing_the_package_says_what_is_wrong() -> None:
    done = subprocess.run(
        [sys.executable, '-c', IMPORTS, json.dumps(BROKEN)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, '')
    for line, (*_, message) in zip(done.stdout.splitlines(), BROKEN, strict=True):
        assert line.startswith('mmrazor_mutators.errors.HostError: ')
        assert message in line


@pytest.mark.parametrize(
    ('name', 'lacking', 'advice'),
    [
        ('mmcv1', 'torchvision', r'mmcv 1\.x imports torchvision: pip install torchvision$'),
        ('mmcv1', 'addict', r'pip install --force-reinstall "mmcv>=1\.5,<2"$'),
        (
            'mmengine',
            'cv2',
            r'pip install "mmengine>=0\.10", then .*"mmcv-lite>=2\.0" \(or mmcv',
        ),
    ],
)
def test_what_a_host_lacks_itself(name: str, lacking: str, advice: str) -> None:
    error = ModuleNotFoundError(f"No module named '{lacking}'", name=lacking)
    raised = unusable(name, {'mmcv': '1.2.3'}, error)
    assert isinstance(raised, HostError)
    assert re.search(rf"^mmrazor_mutators found mmcv 1\.2\.3,.*'{lacking}'\)", str(raised))
    assert re.search(advice, str(raised))


def test_versions_are_those_of_what_is_imported(tmp_path: Any, monkeypatch: Any) -> None:
    (tmp_path / 'old_host.py').write_text(
        'import warnings\n'
        "warnings.warn('On January 1, 2023, there will be a new one')\n"
        "__version__ = '1.2.3'\n"
    )
    (tmp_path / 'loud_host.py').write_text("import warnings\nwarnings.warn('Beware')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert version_of('old_host') == '1.2.3'
    with pytest.raises(UserWarning, match='Beware'):
        version_of('loud_host')
    assert isinstance(version_of('no_such_host'), ModuleNotFoundError)


def test_this_host_is_named() -> None:
    packages = {'mmengine': ['mmengine', 'mmcv'], 'mmcv1': ['mmcv']}[host.NAME]
    assert {package: version_of(package) for package in packages} == host.VERSIONS
    assert describe({'mmcv': '1.7.2'}) == 'mmcv 1.7.2'


def test_a_runner_is_asked_for(monkeypatch: Any) -> None:
    monkeypatch.setattr(host, 'NAME', 'mmengine')
    host.require_runner('`search`')
    monkeypatch.setattr(host, 'NAME', 'mmcv1')
    monkeypatch.setattr(host, 'VERSIONS', {'mmcv': '1.7.2'})
    message = '^`search` needs the runner of mmengine, but the host here is mmcv 1.7.2. Install'
    with pytest.raises(HostError, match=message):
        host.require_runner('`search`')
