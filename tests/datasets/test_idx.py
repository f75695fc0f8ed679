"""The IDX reader against bytes written by hand, and everything that can be wrong with them."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from mmrazor_mutators.datasets.idx import parse_idx, read_idx
from mmrazor_mutators.errors import DataError

LABELS = b'\0\0\x08\x01\0\0\0\x03\x05\x00\x09'


@pytest.mark.parametrize(
    ('code', 'form', 'dtype', 'values'),
    [
        (0x08, 'B', np.uint8, [0, 1, 127, 128, 255, 7]),
        (0x09, 'b', np.int8, [0, 1, 127, -128, -1, 7]),
        (0x0B, 'h', np.int16, [0, 1, 258, -32768, -2, 7]),
        (0x0C, 'i', np.int32, [0, 1, 16909060, -(2**31), -2, 7]),
        (0x0D, 'f', np.float32, [0.0, 1.5, -0.25, 1e10, 3.0, 7.0]),
        (0x0E, 'd', np.float64, [0.0, 0.1, -0.25, 1e100, 3.0, 7.0]),
    ],
)
def test_every_type_of_the_format(code, form, dtype, values):
    header = bytes([0, 0, code, 2, 0, 0, 0, 2, 0, 0, 0, 3])
    array = parse_idx(header + struct.pack(f'>6{form}', *values))
    assert array.dtype == dtype
    assert array.dtype.isnative
    expected = np.array(values, dtype).reshape(2, 3)
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize('shape', [(6,), (1, 6), (2, 1, 3), (1, 3, 1, 2)])
def test_any_number_of_dimensions(shape):
    content = bytes([0, 0, 8, len(shape)]) + struct.pack(f'>{len(shape)}i', *shape)
    array = parse_idx(content + bytes(range(6)))
    for place, value in zip(np.ndindex(*shape), range(6), strict=True):
        assert array[place] == value


def test_sizes_of_more_than_a_byte():
    assert parse_idx(b'\0\0\x08\x01\0\0\x01\x02' + bytes(258)).shape == (258,)


@pytest.mark.parametrize('pack', [bytes, gzip.compress])
def test_files_plain_and_gzipped_whatever_their_name(tmp_path, pack):
    path = tmp_path / 'labels'
    path.write_bytes(pack(LABELS))
    np.testing.assert_array_equal(read_idx(path), [5, 0, 9])


@pytest.mark.parametrize(
    ('content', 'match'),
    [
        (b'', "two zero bytes.* but got b''"),
        (b'\0\0\x08', r"two zero bytes.* but got b'\\x00\\x00\\x08'"),
        (b'<html>', "two zero bytes.* but got b'<htm'"),
        (b'\0\0\x0a\x01\0\0\0\1\0', 'type among 0x08, 0x09, .*, but got 0x0A'),
        (b'\0\0\x08\x00', 'at least one dimension, .* announces 0 and 0 bytes'),
        (b'\0\0\x08\x02\0\0\0\1\0\0', 'announces 2 and 6 bytes follow'),
        (LABELS[:-1], r'expected 3 bytes of values for the shape \(3,\), but got 2'),
        (LABELS + b'\1', r'expected 3 bytes of values for the shape \(3,\), but got 4'),
        (b'\0\0\x0e\x01\0\0\0\2' + bytes(15), 'expected 16 bytes .* but got 15'),
        (b'\0\0\x08\x02' + b'\xff' * 8, 'expected 18446744065119617025 bytes .* but got 0'),
    ],
)
def test_broken_content(tmp_path, content, match):
    path = tmp_path / 'train-images-idx3-ubyte'
    path.write_bytes(content)
    with pytest.raises(DataError, match=f'train-images-idx3-ubyte.*{match}'):
        read_idx(path)


@pytest.mark.parametrize(
    ('damage', 'match'),
    [
        (lambda packed: packed[:-12], 'ended before the end-of-stream'),
        (lambda packed: packed[:10] + b'\xff' * 5 + packed[15:], 'Error -3'),
        (lambda packed: packed[:-8] + bytes(8), 'CRC check failed'),
    ],
)
def test_a_broken_archive(tmp_path, damage, match):
    path = tmp_path / 'labels.gz'
    path.write_bytes(damage(gzip.compress(LABELS)))
    with pytest.raises(DataError, match=f'labels.gz cannot be read: .*{match}'):
        read_idx(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r'nowhere cannot be read: .*No such file'):
        read_idx(tmp_path / 'nowhere')
