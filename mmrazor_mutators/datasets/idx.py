"""The IDX format of MNIST and its kin: a header of a few numbers, then raw values."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np

from ..errors import DataError
from .files import read_bytes

__all__ = ['parse_idx', 'read_idx']

# The third byte of a file: type of its values, big-endian like all of the file.
_DTYPES = {0x08: '>u1', 0x09: '>i1', 0x0B: '>i2', 0x0C: '>i4', 0x0D: '>f4', 0x0E: '>f8'}


def parse_idx(content: bytes, where: str = 'IDX data') -> np.ndarray:
    r"""Turn the content of an IDX file into an array of its shape and type.

    LeCun, Cortes & Burges, "The MNIST database of handwritten digits": two zero
    bytes, one byte for the type, one for the number of dimensions, the size of
    each as a big-endian int32, then the values, the last dimension fastest.

    Args:
        content: All bytes of the file, unpacked.
        where: Name of the file, for messages.

    Raises:
        DataError: Another magic number, an unknown type, or fewer or more bytes
            than the header announces.

    >>> parse_idx(b'\0\0\x08\x02\0\0\0\2\0\0\0\3\1\2\3\4\5\6')
    array([[1, 2, 3],
           [4, 5, 6]], dtype=uint8)
    """
    if len(content) < 4 or content[:2] != b'\0\0':
        raise DataError(
            f'{where} is no IDX file: expected it to start with two zero bytes, a type and '
            f'a number of dimensions, but got {content[:4]!r}'
        )
    code, ndim = content[2], content[3]
    if code not in _DTYPES:
        known = ', '.join(f'0x{known:02X}' for known in _DTYPES)
        raise DataError(f'{where}: expected a type among {known}, but got 0x{code:02X}')
    start = 4 + 4 * ndim
    if ndim == 0 or len(content) < start:
        raise DataError(
            f'{where}: expected the sizes of at least one dimension, but the header '
            f'announces {ndim} and {len(content) - 4} bytes follow it'
        )
    shape = struct.unpack(f'>{ndim}I', content[4:start])
    dtype = np.dtype(_DTYPES[code])
    expected = math.prod(shape) * dtype.itemsize
    if len(content) - start != expected:
        raise DataError(
            f'{where}: expected {expected} bytes of values for the shape {shape}, '
            f'but got {len(content) - start}'
        )
    array = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return array.astype(dtype.newbyteorder('='))


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file, gzipped or not.

    Raises:
        DataError: It cannot be read or is no IDX file.
    """
    return parse_idx(read_bytes(path), str(path))
