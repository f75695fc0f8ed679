"""Write batches of CIFAR-10, byte for byte as in the files of its site."""

from __future__ import annotations

import struct

PIXELS = 3072


def _string(text: bytes) -> bytes:
    if len(text) < 256:
        return b'U' + bytes([len(text)]) + text
    return b'T' + struct.pack('<i', len(text)) + text


def _int(value: int) -> bytes:
    return b'K' + bytes([value]) if value < 256 else b'M' + struct.pack('<H', value)


def _list(items: list[bytes]) -> bytes:
    return b'](' + b''.join(items) + b'e'


def _array(rows: list[bytes]) -> bytes:
    """A uint8 array of the shape ``(len(rows), 3072)``, as numpy wrote it then."""
    empty = b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R'
    shape = _int(len(rows)) + _int(PIXELS) + b'\x86'
    minus_one = b'J\xff\xff\xff\xff'
    dtype = b'cnumpy\ndtype\nU\x02u1K\0K\1\x87R(K\3U\x01|NNN' + 2 * minus_one + b'K\0tb'
    return empty + b'(K\1' + shape + dtype + b'\x89' + _string(b''.join(rows)) + b'tb'


def python_batch(rows: list[bytes], labels: list[int]) -> bytes:
    """A batch of the "python version": a pickle of Python 2, protocol 2."""
    entries = [
        _string(b'batch_label') + _string(b'training batch 1 of 5'),
        _string(b'labels') + _list([_int(label) for label in labels]),
        _string(b'data') + _array(rows),
        _string(b'filenames') + _list([_string(b'leptodactylus_s_000004.png') for _ in rows]),
    ]
    return b'\x80\x02}(' + b''.join(entries) + b'u.'


def binary_batch(rows: list[bytes], labels: list[int]) -> bytes:
    """A batch of the "binary version"."""
    return b''.join(bytes([label]) + row for row, label in zip(rows, labels, strict=True))
