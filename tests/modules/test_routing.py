"""Where stanzas go: RFC 6121 section 8.5, each case of it played between Romeo and Juliet."""

from __future__ import annotations

import pytest

from tests.support.world import Player, World
from xmppd.core.iq import Request, Target

ROMEO, JULIET = "romeo@example.org", "juliet@example.org"
ORCHARD = f"{ROMEO}/orchard"

# Who of Juliet's clients is there: resource and presence; None is connected, and has sent none.
SITUATIONS: dict[str, dict[str, str | None]] = {
    "offline": {},
    "connected": {"balcony": None},
    "negative": {"balcony": "<presence><priority>-1</priority></presence>"},
    "available": {
        "balcony": "<presence/>",
        "tomb": "<presence><priority>5</priority></presence>",
        "well": "<presence><priority>-1</priority></presence>",
        "garden": None,
    },
}

# To and situation, and what becomes of each type. A word in capitals is a resource that gets it; *keep*: stored,
# *refuse*: service-unavailable, *drop*: nothing. A missing or unknown type counts as normal (section 5.2.2).
TYPES = ("normal", "chat", "groupchat", "headline", "error")
BOTH = "BALCONY+TOMB"
MESSAGES = {
    # section 8.5.1
    ("nobody@example.org", "available"): ("refuse", "refuse", "refuse", "drop", "drop"),
    ("nobody@example.org/x", "available"): ("refuse", "refuse", "refuse", "drop", "drop"),
    # section 8.5.2.1.1
    (JULIET, "available"): (BOTH, BOTH, "refuse", BOTH, "drop"),
    # section 8.5.2.2.1
    (JULIET, "offline"): ("keep", "keep", "refuse", "drop", "drop"),
    (JULIET, "connected"): ("keep", "keep", "refuse", "drop", "drop"),
    (JULIET, "negative"): ("keep", "keep", "refuse", "drop", "drop"),
    # section 8.5.3.1
    (f"{JULIET}/balcony", "connected"): ("BALCONY",) * 5,
    (f"{JULIET}/balcony", "negative"): ("BALCONY",) * 5,
    (f"{JULIET}/balcony", "available"): ("BALCONY",) * 5,
    (f"{JULIET}/well", "available"): ("WELL",) * 5,
    (f"{JULIET}/garden", "available"): ("GARDEN",) * 5,
    # section 8.5.3.2.1
    (f"{JULIET}/gone", "available"): ("refuse", BOTH, "refuse", "drop", "drop"),
    (f"{JULIET}/gone", "offline"): ("refuse", "keep", "refuse", "drop", "drop"),
    (f"{JULIET}/gone", "negative"): ("refuse", "keep", "refuse", "drop", "drop"),
    # RFC 6120 section 10.5: the server is nobody to talk to
    ("example.org", "available"): ("refuse", "refuse", "refuse", "drop", "drop"),
    ("example.org/x", "available"): ("refuse", "refuse", "refuse", "drop", "drop"),
    # sections 8.1 and 8.2: Romeo himself
    ("", "available"): ("ORCHARD", "ORCHARD", "refuse", "ORCHARD", "drop"),
    (ROMEO, "available"): ("ORCHARD", "ORCHARD", "refuse", "ORCHARD", "drop"),
    (ORCHARD, "available"): ("ORCHARD",) * 5,
    (f"{ROMEO}/gone", "available"): ("refuse", "ORCHARD", "refuse", "drop", "drop"),
    # RFC 6120 section 10.4
    ("juliet@elsewhere.example", "available"): ("unreachable",) * 4 + ("drop",),
}  # fmt: skip


def cases() -> list[tuple[str, str, str | None, str]]:
    found: list[tuple[str, str, str | None, str]] = []
    for (to, situation), outcomes in MESSAGES.items():
        found += [(to, situation, type, outcome) for type, outcome in zip(TYPES, outcomes, strict=True)]
        found += [(to, situation, None, outcomes[0]), (to, situation, "unknown", outcomes[0])]
    return found


def verona(situation: str) -> tuple[World, Player, dict[str, Player]]:
    """Romeo, and Juliet's clients."""
    world = World("modules_disabled = mam\n")
    world.account(JULIET)
    romeo = world.online(ORCHARD)
    clients = {}
    for resource, presence in SITUATIONS[situation].items():
        clients[resource] = world.login(f"{JULIET}/{resource}")
        if presence:
            clients[resource].sends(presence)
    for client in clients.values():
        client.forget()
    return world, romeo, clients


@pytest.mark.parametrize(("to", "situation", "type", "outcome"), cases())
def test_a_message(to: str, situation: str, type: str | None, outcome: str) -> None:
    world, romeo, clients = verona(situation)
    attributes = (f" to='{to}'" if to else "") + (f" type='{type}'" if type else "")
    romeo.sends(f"<message id='1'{attributes}><body>Hi</body></message>")
    kind = f" type='{type}'" if type else ""
    arrived = f"<message from='{ORCHARD}' to='{to or ROMEO}' id='1'{kind}><body>Hi</body></message>"
    everybody = {**clients, "orchard": romeo}
    for resource in outcome.split("+") if outcome.isupper() else []:
        everybody[resource.lower()].receives(arrived)
    if outcome == "refuse":
        romeo.receives_error("service-unavailable", "cancel", name="message", id="1", sender=to or ROMEO)
    if outcome == "unreachable":
        romeo.receives_error("remote-server-not-found", "cancel", name="message", id="1", sender=to)
    for player in everybody.values():
        player.receives_nothing()
    account = world.run(world.host.accounts.load("juliet"))
    assert bool(world.result(world.store.offline.size(account.id))[0]) == (outcome == "keep")


AVAILABLE = "BALCONY+TOMB+WELL"
PRESENCE = {
    # sections 8.5.1, 8.5.2.1.2, 8.5.2.2.2, 8.5.3.1, 8.5.3.2.2
    ("nobody@example.org", "available"): "drop",
    (JULIET, "offline"): "drop",
    (JULIET, "connected"): "drop",
    (JULIET, "negative"): "BALCONY",
    (JULIET, "available"): AVAILABLE,
    (f"{JULIET}/tomb", "available"): "TOMB",
    (f"{JULIET}/garden", "available"): "GARDEN",
    (f"{JULIET}/gone", "available"): "drop",
    (ROMEO, "available"): "ORCHARD",
    (ORCHARD, "available"): "ORCHARD",
    ("example.org", "available"): "drop",
    ("example.org/x", "available"): "drop",
}  # fmt: skip


@pytest.mark.parametrize("type", [None, "unavailable", "error"])
@pytest.mark.parametrize(("to", "situation", "outcome"), [(*key, value) for key, value in PRESENCE.items()])
def test_presence(to: str, situation: str, outcome: str, type: str | None) -> None:
    """To whom it is addressed it goes, whatever the priority; nobody else hears of it, and there is no answer."""
    _, romeo, clients = verona(situation)
    kind = f" type='{type}'" if type else ""
    romeo.sends(f"<presence id='1' to='{to}'{kind}/>")
    everybody = {**clients, "orchard": romeo}
    for resource in outcome.split("+") if outcome.isupper() else []:
        everybody[resource.lower()].receives(f"<presence id='1' from='{ORCHARD}' to='{to}'{kind}/>")
    for player in everybody.values():
        player.receives_nothing()


@pytest.mark.parametrize(
    ("type", "answered"), [(None, True), ("unavailable", False), ("probe", False), ("error", False)]
)
def test_presence_to_a_server_out_of_reach(type: str | None, answered: bool) -> None:
    _, romeo, _ = verona("offline")
    to = "juliet@elsewhere.example"
    romeo.sends(f"<presence id='1' to='{to}'{f' type={type!r}' if type else ''}/>")
    if answered:
        romeo.receives_error("remote-server-not-found", "cancel", name="presence", id="1", sender=to)
    romeo.receives_nothing()


QUERY = "<query xmlns='urn:example:unheard-of'/>"

# To and situation: who gets a request. "SERVER" answers with what it knows.
REQUESTS = {
    ("nobody@example.org", "available"): "refuse",
    ("nobody@example.org/x", "available"): "refuse",
    (JULIET, "offline"): "refuse",
    (JULIET, "available"): "refuse",
    (f"{JULIET}/balcony", "available"): "BALCONY",
    (f"{JULIET}/garden", "available"): "GARDEN",
    (f"{JULIET}/gone", "available"): "refuse",
    (f"{JULIET}/balcony", "offline"): "refuse",
    ("example.org", "available"): "refuse",
    ("example.org/x", "available"): "refuse",
    ("", "available"): "refuse",
    (ROMEO, "available"): "refuse",
    (ORCHARD, "available"): "ORCHARD",
    (f"{ROMEO}/gone", "available"): "refuse",
    ("juliet@elsewhere.example", "available"): "unreachable",
}  # fmt: skip


@pytest.mark.parametrize("type", ["get", "set", "result", "error"])
@pytest.mark.parametrize(("to", "situation", "outcome"), [(*key, value) for key, value in REQUESTS.items()])
def test_an_iq(to: str, situation: str, outcome: str, type: str) -> None:
    """Sections 8.5.2.1.3, 8.5.3.1 and 8.5.3.2.3, between friends: a request is answered once or reaches the one
    who answers it; a result and an error are never answered."""
    _, romeo, clients = verona(situation)
    romeo.sends(f"<presence type='subscribe' to='{JULIET}'/>")
    for client in clients.values():
        client.sends(f"<presence type='subscribed' to='{ROMEO}'/>")
        client.forget()
    romeo.forget()
    address = f" to='{to}'" if to else ""
    romeo.sends(f"<iq id='1' type='{type}'{address}>{QUERY}</iq>")
    everybody = {**clients, "orchard": romeo}
    if outcome.isupper():
        everybody[outcome.lower()].receives(f"<iq id='1' type='{type}' from='{ORCHARD}' to='{to}'>{QUERY}</iq>")
    elif type in ("get", "set"):
        condition = "remote-server-not-found" if outcome == "unreachable" else "service-unavailable"
        romeo.receives_error(condition, "cancel", name="iq", id="1", sender=to or None)
    for player in everybody.values():
        player.receives_nothing()


# ---- requests between strangers (section 8.5.3.1)


@pytest.mark.parametrize("type", ["get", "set"])
def test_a_stranger_cannot_tell_a_resource_from_none(type: str) -> None:
    """The same answer, byte for byte but for the address, whether there is such a resource or account or not."""
    _, romeo, clients = verona("available")
    answers = set()
    for to in (f"{JULIET}/balcony", f"{JULIET}/gone", "nobody@example.org/balcony"):
        romeo.sends(f"<iq id='1' type='{type}' to='{to}'>{QUERY}</iq>")
        answers.add(romeo.received_bytes().rpartition(b"<iq")[2].replace(to.encode(), b"TO"))
        romeo.receives_error("service-unavailable", "cancel", name="iq", id="1", sender=to)
    assert len(answers) == 1
    for client in clients.values():
        client.receives_nothing()


def test_an_answer_to_a_stranger_is_delivered() -> None:
    """What Juliet's client asked for comes back, whoever answers."""
    _, romeo, clients = verona("available")
    romeo.sends(f"<presence to='{JULIET}'/>")
    for client in clients.values():
        client.forget()
    clients["balcony"].sends(f"<iq id='7' type='get' to='{ORCHARD}'>{QUERY}</iq>")
    romeo.receives(f"<iq id='7' type='get' from='{JULIET}/balcony' to='{ORCHARD}'>{QUERY}</iq>")
    romeo.sends(f"<iq id='7' type='result' to='{JULIET}/balcony'/>")
    clients["balcony"].receives(f"<iq id='7' type='result' from='{ORCHARD}' to='{JULIET}/balcony'/>")


def test_directed_presence_opens_the_door_of_one_resource() -> None:
    """And its end closes it."""
    _, romeo, clients = verona("available")
    balcony, tomb = clients["balcony"], clients["tomb"]
    balcony.sends(f"<presence to='{ROMEO}'/>")
    romeo.forget()
    for client, reached in ((balcony, True), (tomb, False)):
        romeo.sends(f"<iq id='1' type='get' to='{client.full}'>{QUERY}</iq>")
        if reached:
            client.receives(f"<iq id='1' type='get' from='{ORCHARD}' to='{client.full}'>{QUERY}</iq>")
        else:
            romeo.receives_error("service-unavailable", "cancel", name="iq", id="1", sender=client.full)
    balcony.sends(f"<presence type='unavailable' to='{ROMEO}'/>")
    romeo.forget()
    romeo.sends(f"<iq id='1' type='get' to='{balcony.full}'>{QUERY}</iq>")
    romeo.receives_error("service-unavailable", "cancel", name="iq", id="1", sender=balcony.full)


def test_a_subscription_is_asked_for_in_the_right_direction() -> None:
    """Romeo lets Juliet see his presence, not she him: his request is a stranger's."""
    _, romeo, clients = verona("available")
    balcony = clients["balcony"]
    balcony.sends(f"<presence type='subscribe' to='{ROMEO}'/>")
    romeo.sends(f"<presence type='subscribed' to='{JULIET}'/>")
    romeo.forget()
    for client in clients.values():
        client.forget()
    romeo.sends(f"<iq id='1' type='get' to='{balcony.full}'>{QUERY}</iq>")
    romeo.receives_error("service-unavailable", "cancel", name="iq", id="1", sender=balcony.full)
    balcony.sends(f"<iq id='2' type='get' to='{ORCHARD}'>{QUERY}</iq>")
    romeo.receives(f"<iq id='2' type='get' from='{balcony.full}' to='{ORCHARD}'>{QUERY}</iq>")


# ---- several hosts


def test_two_hosts_of_one_server() -> None:
    world = World("modules_disabled = mam\n", "[host:example.org]\n[host:example.net]\n")
    romeo, juliet = world.online(ORCHARD), world.online("juliet@example.net/balcony")
    romeo.sends("<message to='juliet@example.net'><body>Hi</body></message>")
    juliet.receives(f"<message from='{ORCHARD}' to='juliet@example.net'><body>Hi</body></message>")
    romeo.sends("<message id='1' to='juliet@example.org'><body>Hi</body></message>")
    romeo.receives_error("service-unavailable", "cancel", name="message", id="1", sender="juliet@example.org")
    world.befriend(romeo, juliet)
    romeo.disconnects()
    juliet.receives(f"<presence type='unavailable' from='{ORCHARD}' to='juliet@example.net'/>")


def test_the_server_and_the_account_answer_each_for_themselves() -> None:
    world, romeo, _ = verona("offline")
    asked: list[str] = []

    def answer(name: str, payload: bytes | None) -> None:
        def handler(request: Request) -> bytes | None:
            asked.append(f"{name} {request.account.jid if request.account else None} {request.is_own}")
            return payload

        world.host.iq.on(Target[name], "get", "urn:example:known", "q", handler)

    for name in ("SERVER", "OWN"):
        answer(name, b"<q xmlns='urn:example:known'/>")
    query = "<q xmlns='urn:example:known'/>"
    romeo.sends(f"<iq id='1' type='get' to='example.org'>{query}</iq>")
    romeo.receives(f"<iq id='1' type='result' from='example.org' to='{ORCHARD}'>{query}</iq>")
    romeo.sends(f"<iq id='2' type='get'>{query}</iq>")
    romeo.receives(f"<iq id='2' type='result' to='{ORCHARD}'>{query}</iq>")
    romeo.sends(f"<iq id='3' type='get' to='{ROMEO}'>{query}</iq>")
    romeo.receives(f"<iq id='3' type='result' from='{ROMEO}' to='{ORCHARD}'>{query}</iq>")
    for to in (JULIET, "nobody@example.org"):
        romeo.sends(f"<iq id='4' type='get' to='{to}'>{query}</iq>")
        romeo.receives_error("forbidden", "auth", name="iq", id="4", sender=to)
    answer("ACCOUNT", None)
    romeo.sends(f"<iq id='5' type='get' to='{JULIET}'>{query}</iq>")
    romeo.receives(f"<iq id='5' type='result' from='{JULIET}' to='{ORCHARD}'/>")
    own = f"OWN {ROMEO} True"
    assert asked == ["SERVER None False", own, own, f"ACCOUNT {JULIET} False"]
