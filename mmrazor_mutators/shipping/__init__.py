"""Files that hold a network for others: what a file's name ends in says in which form."""

from .formats import SUFFIXES, files_of, write_network

__all__ = ['SUFFIXES', 'files_of', 'write_network']
