"""The capabilities of a host, one file each; see ``docs/modules.rst`` for how one is made."""
