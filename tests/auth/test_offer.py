"""What a stream offers: in which order, under which conditions, and the hash over it."""

from __future__ import annotations

import pytest

from xmppd.auth.mechanism import AuthenticationFailed
from xmppd.auth.offer import STRONGEST_FIRST, Offer, create, downgrade_hash, make_offer

from .support import EVERYTHING, NO_BINDING, make_exchange

TYPES = ("tls-exporter", "tls-server-end-point")


@pytest.mark.parametrize(
    ("arguments", "mechanisms", "types"),
    [
        pytest.param({"secure": True, "channel_bindings": TYPES}, STRONGEST_FIRST, TYPES, id="TLS"),
        pytest.param(
            {"secure": True, "channel_bindings": []},
            ("SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"),
            (),
            id="behind a proxy",
        ),
        pytest.param({"secure": False, "channel_bindings": TYPES}, (), (), id="no TLS"),
        pytest.param(
            {"secure": False, "channel_bindings": TYPES, "allow_insecure": True},
            ("SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1"),
            (),
            id="no TLS, allowed",
        ),
        pytest.param(
            {"secure": False, "channel_bindings": TYPES, "allow_plain": True},
            ("SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"),
            (),
            id="no TLS, PLAIN allowed",
        ),
        pytest.param(
            {"secure": True, "channel_bindings": TYPES, "disabled": ["PLAIN", "SCRAM-SHA-1"]},
            ("SCRAM-SHA-512-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-512", "SCRAM-SHA-256"),
            TYPES,
            id="disabled",
        ),
        pytest.param(
            {
                "secure": True,
                "channel_bindings": TYPES,
                "disabled": {"SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-512-PLUS"},
            },
            ("SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"),
            (),
            id="no types without -PLUS",
        ),
        pytest.param(
            {"secure": True, "channel_bindings": TYPES, "hashes": {"SHA-1", "SHA-256"}},
            ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"),
            TYPES,
            id="hashes with keys",
        ),
        pytest.param(
            {"secure": True, "channel_bindings": TYPES, "hashes": ()}, ("PLAIN",), (), id="no hash with keys"
        ),
    ],
)
def test_offer(arguments: dict, mechanisms: tuple[str, ...], types: tuple[str, ...]) -> None:
    assert make_offer(**arguments) == Offer(mechanisms, types)


def test_strongest_first() -> None:
    assert STRONGEST_FIRST == (
        "SCRAM-SHA-512-PLUS",
        "SCRAM-SHA-256-PLUS",
        "SCRAM-SHA-1-PLUS",
        "SCRAM-SHA-512",
        "SCRAM-SHA-256",
        "SCRAM-SHA-1",
        "PLAIN",
    )


@pytest.mark.parametrize("name", EVERYTHING.mechanisms)
def test_what_is_offered_is_made(name: str) -> None:
    assert create(name, make_exchange()).name == name


@pytest.mark.parametrize(
    "name", ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-512", "plain", "scram-sha-1", "EXTERNAL", "ANONYMOUS", "", "X\0"]
)
def test_what_is_not_offered_is_refused(name: str) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        create(name, make_exchange(offered=NO_BINDING))
    assert caught.value.condition == "invalid-mechanism"


def test_an_offered_mechanism_that_lives_elsewhere_is_not_made_here() -> None:
    with pytest.raises(AuthenticationFailed, match="invalid-mechanism"):
        create("EXTERNAL", make_exchange(offered=Offer(("EXTERNAL", "PLAIN"), ())))


@pytest.mark.parametrize(
    ("mechanisms", "types", "hash_name", "value"),
    [
        pytest.param(
            ("SCRAM-SHA-1", "SCRAM-SHA-1-PLUS"),
            ("tls-exporter", "tls-server-end-point"),
            "SHA-1",
            "G6k/rBLDqgOhRRaCuuatSDFkJ08=",
            id="XEP-0474",
        ),
        pytest.param(
            ("SCRAM-SHA-1-PLUS", "SCRAM-SHA-1"),
            ("tls-server-end-point", "tls-exporter"),
            "SHA-1",
            "G6k/rBLDqgOhRRaCuuatSDFkJ08=",
            id="in any order",
        ),
        # printf 'PLAIN\x1eSCRAM-SHA-1' | openssl dgst -sha256 -binary | base64
        pytest.param(
            ("SCRAM-SHA-1", "PLAIN"),
            (),
            "SHA-256",
            "aE0ZQpXO33awheXK+2X8RthcH6Xsl7MDkkir/XU/hKY=",
            id="no types, no separator",
        ),
    ],
)
def test_downgrade_hash(
    mechanisms: tuple[str, ...], types: tuple[str, ...], hash_name: str, value: str
) -> None:
    assert downgrade_hash(Offer(mechanisms, types), hash_name) == value


def test_names_are_sorted_as_octets() -> None:
    assert downgrade_hash(Offer(("a", "B"), ()), "SHA-1") == downgrade_hash(Offer(("B", "a"), ()), "SHA-1")
    # printf 'B\x1ea' | openssl dgst -sha1 -binary | base64
    assert downgrade_hash(Offer(("a", "B"), ()), "SHA-1") == "cCCRIjM5iDCuk+lzdsSooywc4II="
