"""Administration: the admin socket of a running server, and the program `xmppctl`.

`commands.py` is the table of all commands. A running server carries them out through `admin.py`; `xmppctl`
(`main.py`) sends them there, or carries them out itself on the store when no server runs (`direct.py`).
"""
