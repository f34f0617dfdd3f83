"""Two servers that speak to each other: messages, presence and requests go both ways, by whatever proof there is."""

from __future__ import annotations

import pytest

from tests.support.federation import Globe

HERE, THERE = "montague.example", "capulet.example"
ROMEO, JULIET = f"romeo@{HERE}/orchard", f"juliet@{THERE}/balcony"


def both(certificates: bool = False, config: str = "") -> Globe:
    globe = Globe()
    globe.world(HERE, config=config)
    globe.world(THERE, config=config)
    if certificates:
        globe.certificates = {HERE: [HERE], THERE: [THERE]}
    return globe


@pytest.mark.parametrize("bidi", ["yes", "no"])
@pytest.mark.parametrize("smacks", ["yes", "no"])
@pytest.mark.parametrize("certificates", [True, False])
def test_a_message_and_its_answer(certificates: bool, smacks: str, bidi: str) -> None:
    globe = both(certificates, f"s2s_bidi = {bidi}\nsmacks_enabled_s2s = {smacks}")
    romeo, juliet = globe.worlds[HERE].online(ROMEO), globe.worlds[THERE].online(JULIET)
    romeo.sends(f"<message to='juliet@{THERE}' type='chat' id='1'><body>hi</body></message>")
    juliet.receives(f"<message from='{ROMEO}' to='juliet@{THERE}' type='chat' id='1'><body>hi</body></message>")
    juliet.sends(f"<message to='{ROMEO}' type='chat' id='2'><body>ho</body></message>")
    romeo.receives(f"<message from='{JULIET}' to='{ROMEO}' type='chat' id='2'><body>ho</body></message>")
    # By dialback each asks the other one back; with bidi the answer needs no stream of its own.
    assert len(globe.attempts) == (1 if bidi == "yes" else 2) + (bidi == "yes" and not certificates)
