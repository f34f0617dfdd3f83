"""Hosts, sessions, routing, and the events that modules hook."""
