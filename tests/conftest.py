"""Fixtures that every part may ask for."""

from tests.support.postgresql import postgresql

__all__ = ["postgresql"]
