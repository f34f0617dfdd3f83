"""Listeners and connections: what moves bytes between sockets and sessions."""
