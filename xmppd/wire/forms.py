"""Data forms (XEP-0004 2.13.1), as far as a server reads and writes them."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.words.xish import domish

from xmppd.wire import ns
from xmppd.wire.xml import tag

MAX_VALUES = 1000  # of a field


def read_form(parent: domish.Element, form_type: str) -> dict[str, list[str]] | None:
    """The values of each field of the submitted form in an element, without its ``FORM_TYPE``; None where there is no
    form. `ValueError` for one of another type (XEP-0068 section 3), a field given twice, or too many values."""
    form = next(parent.elements(ns.DATA_FORMS, "x"), None)
    if form is None:
        return None
    if form.getAttribute("type") != "submit":
        raise ValueError("the form is to be submitted")
    fields: dict[str, list[str]] = {}
    for field in form.elements(ns.DATA_FORMS, "field"):
        name = field.getAttribute("var", "")
        values = [str(value) for value in field.elements(ns.DATA_FORMS, "value")]
        if name in fields or len(values) > MAX_VALUES:
            raise ValueError("a field is there twice, or has too many values")
        fields[name] = values
    if fields.pop("FORM_TYPE", None) != [form_type]:
        raise ValueError(f"the FORM_TYPE has to be {form_type}")
    return fields


def form_bytes(form_type: str, fields: Iterable[bytes]) -> bytes:
    """An empty form of a type, to be filled in."""
    hidden = tag("field", {"var": "FORM_TYPE", "type": "hidden"}, tag("value", None, form_type))
    return tag("x", {"xmlns": ns.DATA_FORMS, "type": "form"}, hidden, *fields)
