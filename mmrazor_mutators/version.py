"""The version, on one line that ``setup.py`` reads without importing anything."""

__all__ = ['__version__']

__version__ = '0.1.0'
