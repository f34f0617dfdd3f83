"""Logging in: SASL mechanisms as plain classes. No sockets, no reactor, no clock, no database.

Read ``mechanism.py`` for the shape all mechanisms share, then ``scram.py`` and ``plain.py``; ``offer.py``
says which mechanisms a stream may use and makes the one that was chosen.
"""
