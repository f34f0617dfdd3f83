"""Users of all hosts in a file that any server can read (XEP-0227 1.1): ``xmppctl export`` and ``xmppctl import``.

`reader.py` and `files.py` are the side of xmppctl, which has the files; `exporting.py` and `importing.py` are the
server's, which has the store. Between them go requests of limited size, so that neither has more than a piece in
memory, and other users are served meanwhile.
"""
