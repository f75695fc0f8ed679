"""Pickles of arrays are read, and no others."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
from cifar_files import python_batch

from mmrazor_mutators.datasets.unpickle import load_pickle
from mmrazor_mutators.errors import DataError


def test_a_batch_of_python_2():
    rows = [bytes(range(256)) * 12, bytes(3072)]
    batch = load_pickle(python_batch(rows, [6, 9]))
    assert sorted(batch) == [b'batch_label', b'data', b'filenames', b'labels']
    assert batch[b'labels'] == [6, 9]
    assert batch[b'data'].dtype == np.uint8
    expected = np.stack([np.arange(3072) % 256, np.zeros(3072)])
    np.testing.assert_array_equal(batch[b'data'], expected)


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize('dtype', ['uint8', 'int64', 'float32'])
def test_every_protocol_of_python_3(protocol, dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    content = pickle.dumps({b'data': array, 'labels': [1, -2, 300]}, protocol=protocol)
    loaded = load_pickle(content)
    assert loaded['labels'] == [1, -2, 300]
    assert loaded[b'data'].dtype == array.dtype
    np.testing.assert_array_equal(loaded[b'data'], array)


class Harm:
    def __reduce__(self):
        return os.mkdir, ('harm',)


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_is_refused_and_not_run(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps({'data': Harm()}, protocol=protocol)
    with pytest.raises(
        DataError, match=rf'batch cannot be read: .*{os.mkdir.__module__}.mkdir'
    ):
        load_pickle(content, 'batch')
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ('content', 'match'),
    [
        (b'cbuiltins\neval\n(U\x011tR.', r'builtins.eval, which is not allowed'),
        (b'cnumpy\nload\n(U\x01xtR.', r'numpy.load, which is not allowed'),
        (b'cnumpy\nndarray.tofile\n.', r'numpy.ndarray.tofile, which is not allowed'),
        (b'c_codecs\nencode\n(X\1\0\0\0xX\3\0\0\0hextR.', "it encodes text as 'hex'"),
        (b'', 'Ran out of input'),
        (python_batch([bytes(3072)], [1])[:-9], 'truncated'),
        (b'<html>', 'invalid load key'),
        (b'.', 'stack underflow'),
    ],
)
def test_what_cannot_be_read(content, match):
    with pytest.raises(DataError, match=rf'data_batch_1 cannot be read: .*{match}'):
        load_pickle(content, 'data_batch_1')
