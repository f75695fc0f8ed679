"""Which host is installed: mmengine with mmcv 2.x (or mmcv-lite), or mmcv 1.x alone."""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Mapping

from ..errors import HostError

__all__ = ['choose_host', 'describe', 'unusable', 'version_of']

_NEEDED = {'mmengine': (0, 10), 'mmcv': (1, 5)}
"""The oldest version of each that offers what is used here."""

_MMENGINE = 'pip install "mmengine>=0.10"'
_MMCV = 'pip install "mmcv-lite>=2.0" (or mmcv, but never both: they overwrite each other)'


def version_of(package: str) -> str | ImportError:
    """Return the version of a package, or why it cannot be imported.

    What is imported counts and not what the installer lists: mmcv, mmcv-full
    and mmcv-lite all install a package ``mmcv``.
    """
    with warnings.catch_warnings():
        # mmcv 1.x announces mmcv 2.x to whoever imports it.
        warnings.filterwarnings('ignore', 'On January 1, 2023', UserWarning)
        try:
            return str(importlib.import_module(package).__version__)
        except ImportError as error:
            return error


def choose_host(mmengine: str | ImportError, mmcv: str | ImportError) -> str:
    """Return the name of the host that can work: ``'mmengine'`` or ``'mmcv1'``.

    The generation of mmcv decides: mmcv 2.x works with mmengine alone, and
    mmcv 1.x works whether mmengine is there or not.

    Args:
        mmengine: Its version, or why it cannot be imported.
        mmcv: The same of mmcv.

    Raises:
        HostError: Neither can work.

    >>> choose_host('0.10.7', '2.2.0'), choose_host('0.10.7', '1.7.2')
    ('mmengine', 'mmcv1')
    """
    if not isinstance(mmcv, str):
        # mmcv 2.x itself asks for mmengine.
        if not isinstance(mmengine, str):
            raise _missing('mmengine', mmengine, _MMENGINE)
        raise _missing('mmcv 2.x or mmcv-lite 2.x', mmcv, _MMCV)
    if _numbers(mmcv)[0] < 2:
        _check_version(
            'mmcv', mmcv, f'pip install "mmcv>=1.5,<2", or {_MMENGINE[12:]} and {_MMCV}'
        )
        return 'mmcv1'
    if not isinstance(mmengine, str):
        raise _missing('mmengine', mmengine, _MMENGINE)
    _check_version('mmengine', mmengine, _MMENGINE)
    return 'mmengine'


def unusable(name: str, versions: Mapping[str, str], error: ImportError) -> HostError:
    """Return what to raise where a host is there, but not all that is needed of it.

    Args:
        name: As returned by :func:`choose_host`.
        versions: ``{package: version}`` of what was found.
        error: What importing it raised.
    """
    if error.name == 'torchvision':
        advice = 'mmcv 1.x imports torchvision: pip install torchvision'
    elif name == 'mmcv1':
        advice = 'pip install --force-reinstall "mmcv>=1.5,<2"'
    else:
        advice = f'{_MMENGINE}, then pip install --force-reinstall {_MMCV[12:]}'
    return HostError(
        f'mmrazor_mutators found {describe(versions)}, of which something that it needs '
        f'cannot be imported ({error}). Try: {advice}'
    )


def describe(versions: Mapping[str, str]) -> str:
    """Return the packages and their versions as words.

    >>> describe({'mmengine': '0.10.7', 'mmcv': '2.2.0'})
    'mmengine 0.10.7 and mmcv 2.2.0'
    """
    return ' and '.join(f'{package} {version}' for package, version in versions.items())


def _missing(package: str, error: ImportError, install: str) -> HostError:
    return HostError(
        f'mmrazor_mutators needs {package}, which cannot be imported here ({error}). '
        f'Install it with: {install}. mmcv 1.x (from 1.5 on) without mmengine will do as '
        f'well, but for the command line'
    )


def _check_version(package: str, version: str, install: str) -> None:
    if _numbers(version) < _NEEDED[package]:
        needed = '.'.join(map(str, _NEEDED[package]))
        raise HostError(
            f'Expected {package} {needed} or newer, but got {package} {version}. Try: {install}'
        )


def _numbers(version: str) -> tuple[int, ...]:
    """Return major and minor version: ``(2, 0)`` of ``'2.0.0rc4'``."""
    return tuple(int(number) for number in re.findall(r'\d+', version)[:2])
