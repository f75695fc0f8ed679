"""Read a pickle of arrays, numbers and text, and refuse everything else.

A pickle may name any function to be called while it is read.  Here only those
are known that put an array together, so a file from anywhere can do no harm.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from ..errors import DataError

__all__ = ['load_pickle']

_NUMPY_MODULES = {
    'numpy',
    'numpy.core.multiarray',
    'numpy._core.multiarray',
    'numpy.core.numeric',
    'numpy._core.numeric',
}


def _dtype(name: Any, align: Any = False, copy: Any = True) -> np.dtype:
    # Old files give these flags as ints, of which newer versions of numpy warn.
    return np.dtype(name, align=bool(align), copy=bool(copy))


def _encode(text: str, encoding: str) -> bytes:
    # How Python 3 writes bytes in a pickle that Python 2 can read.
    if encoding != 'latin1':
        raise pickle.UnpicklingError(f'it encodes text as {encoding!r}')
    return text.encode('latin1')


# numpy is asked for the functions, for their module differs between its versions.
_NUMPY_NAMES: dict[str, Any] = {
    '_reconstruct': np.empty(0).__reduce__()[0],
    '_frombuffer': np.empty(0).__reduce_ex__(5)[0],
    'ndarray': np.ndarray,
    'dtype': _dtype,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in _NUMPY_MODULES and name in _NUMPY_NAMES:
            return _NUMPY_NAMES[name]
        if (module, name) == ('_codecs', 'encode'):
            return _encode
        raise pickle.UnpicklingError(f'it asks for {module}.{name}, which is not allowed')


def load_pickle(content: bytes, where: str = 'pickle') -> Any:
    r"""Read a pickle, with the strings of Python 2 as bytes.

    Args:
        content: All bytes of the file.
        where: Name of the file, for messages.

    Raises:
        DataError: It is no whole pickle, or holds more than arrays, numbers,
            text and their lists, tuples and dicts.

    >>> load_pickle(b"(dp0\nS'labels'\np1\n(lp2\nI6\naI9\nas.")
    {b'labels': [6, 9]}
    >>> load_pickle(b"cos\nsystem\n(S'echo'\ntR.")
    Traceback (most recent call last):
    mmrazor_mutators.errors.DataError: pickle cannot be read: it asks for os.system, ...
    """
    try:
        return _ArrayUnpickler(io.BytesIO(content), encoding='bytes').load()
    except Exception as error:  # A broken pickle may raise anything.
        raise DataError(f'{where} cannot be read: {error or type(error).__name__}') from error
