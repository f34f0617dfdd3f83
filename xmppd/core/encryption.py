"""What holds an encrypted text: for those who treat it as they would the text."""

from __future__ import annotations

from typing import Final

from xmppd.wire import ns

# By namespace and name, in every namespace that clients have used: OMEMO (XEP-0384), OX (XEP-0373), OpenPGP (XEP-0027).
ENCRYPTED: Final = frozenset({
    (ns.OMEMO_LEGACY, "encrypted"), (ns.OMEMO_0, "encrypted"), (ns.OMEMO_1, "encrypted"), (ns.OMEMO, "encrypted"),
    (ns.OPENPGP, "openpgp"), (ns.OPENPGP_LEGACY, "x"),
})  # fmt: skip
