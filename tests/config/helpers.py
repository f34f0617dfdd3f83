"""What several tests of the configuration use."""

from __future__ import annotations

from typing import Any

import pytest

from xmppd.config import Kind


def refuses(kind: Kind[Any], text: str) -> str:
    """Return why `kind` refuses `text`."""
    with pytest.raises(ValueError) as caught:
        kind.parse(text)
    return str(caught.value)
