"""SASLprep, the form in which SASL compares user names and passwords.

Source: RFC 4013 with RFC 3454. JIDs are prepared by other rules (RFC 7622), and elsewhere.
"""

from __future__ import annotations

import stringprep
from unicodedata import ucd_3_2_0 as unicode_3_2

# RFC 4013 section 2.3, in the order it lists them.
_PROHIBITED = (
    stringprep.in_table_c12,  # spaces other than U+0020
    stringprep.in_table_c21,  # ASCII control characters
    stringprep.in_table_c22,  # other control characters
    stringprep.in_table_c3,  # private use
    stringprep.in_table_c4,  # non-characters
    stringprep.in_table_c5,  # surrogates
    stringprep.in_table_c6,  # not for plain text
    stringprep.in_table_c7,  # not for canonical representation
    stringprep.in_table_c8,  # change of display, deprecated
    stringprep.in_table_c9,  # tags
)


def prepare_password(text: str, *, stored: bool = True) -> str:
    """Return a password as SASL mechanisms use it.

    A password that is to be stored is a "stored string": code points without a meaning in Unicode 3.2 are
    refused (RFC 5802 section 2.2). ``stored=False`` lets them pass, as RFC 4616 section 2 has it for a
    password that is only compared. Raises ValueError, also for a password of which nothing is left; the
    message does not quote it.
    Source: RFC 4013 section 2, RFC 5802 section 5.1, RFC 4616 section 2.
    """
    return _saslprep(text, stored=stored)


def prepare_username(text: str) -> str:
    """Return a SASL user name as mechanisms use it, a "query string" in the words of RFC 3454 section 7.

    Raises ValueError, also for a name of which nothing is left. This does not make a localpart: case is kept.
    Source: RFC 4013 section 2, RFC 5802 section 5.1, RFC 4616 section 2.
    """
    return _saslprep(text, stored=False)


def _saslprep(text: str, *, stored: bool) -> str:
    # U+200B is in both tables of RFC 4013 section 2.1; in the order of the RFC, as in libidn, it is a space.
    spaced = (" " if stringprep.in_table_c12(char) else char for char in text)
    mapped = "".join(char for char in spaced if not stringprep.in_table_b1(char))
    # Stringprep is tied to Unicode 3.2: newer tables would give an old password a new form.
    prepared = unicode_3_2.normalize("NFKC", mapped)
    if not prepared:
        raise ValueError("nothing is left after SASLprep")
    if any(prohibited(char) for char in prepared for prohibited in _PROHIBITED):
        raise ValueError("a character that SASLprep prohibits")
    if stored and any(stringprep.in_table_a1(char) for char in prepared):
        raise ValueError("a character that SASLprep does not know")
    _check_bidi(prepared)
    return prepared


def _check_bidi(text: str) -> None:
    """Refuse text that mixes directions. Source: RFC 3454 section 6."""
    if not any(stringprep.in_table_d1(char) for char in text):
        return
    if any(stringprep.in_table_d2(char) for char in text):
        raise ValueError("left-to-right and right-to-left characters together")
    if not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])):
        raise ValueError("right-to-left text has to begin and end with a right-to-left character")
