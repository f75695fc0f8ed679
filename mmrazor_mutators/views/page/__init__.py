"""A work directory as one page of HTML that opens anywhere, without a network."""

from .writing import write_report

__all__ = ['write_report']
