"""Daemons that are sure to end with their test."""

from tests.daemon.conftest import daemon

__all__ = ["daemon"]
