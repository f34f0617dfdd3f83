"""Server dialback (XEP-0220 1.1.1) on one stream, in all three parts that a server may have in it.

Who opens a stream shows a key (``<db:result/>``), whoever is shown one asks the server of that domain on another stream
whether it is its own (``<db:verify/>``), and answers. An answer counts only where it was asked for on the same stream,
between the same domains and with the same id (section 4): everything else ends the stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail

from xmppd.auth.dialback import dialback_key, is_dialback_key
from xmppd.config.errors import escaped
from xmppd.net.s2s.failed import Failed, unreachable
from xmppd.net.s2s.options import MAX_PAIRS, REQUIRE_ENCRYPTION, is_blocked, needs_certificate
from xmppd.wire import ns
from xmppd.wire.errors import STANZA_CONDITIONS, StreamError
from xmppd.wire.jid import InvalidJID, prepare_domain
from xmppd.wire.stanza import Stanza
from xmppd.wire.xml import tag

if TYPE_CHECKING:
    from xmppd.net.s2s.stream import ServerStream

FEATURE = tag("dialback", {"xmlns": ns.DIALBACK_FEATURE}, tag("errors"))
MAX_ID = 256  # characters of a stream id that is repeated
MAX_GIVEN_UP = 100  # answers that may come late on one stream
MAX_UNPROVEN = 4  # keys that are looked at together on a stream on which nobody is proven yet
MAX_REFUSED = 20  # keys of one stream; who shows so many has nothing better


class Refused(Exception):
    """A key is not accepted, or not looked at; what is said of it: a condition of section 2.4, and a text. `why` says
    more to administrators."""

    def __init__(self, condition: str, text: str, why: str = "") -> None:
        super().__init__(condition, text)
        self.condition = condition
        self.text = text
        self.why = why or text


class Dialback:
    """What was asked and not answered yet on `stream`."""

    def __init__(self, stream: ServerStream) -> None:
        self._stream = stream
        self._shown: dict[tuple[str, str], Deferred[None]] = {}  # by our domain and theirs
        self._asked: dict[tuple[str, str, str], Deferred[bool]] = {}  # by our domain, theirs, and the id
        self._looking: set[tuple[str, str]] = set()  # keys that we were shown, by their domain and ours
        self._given_up: set[tuple[str, ...]] = set()  # what was asked, and not answered in time
        self._refused = 0  # keys

    @property
    def is_busy(self) -> bool:
        """Whether an answer is awaited, or owed."""
        return bool(self._shown or self._asked or self._looking)

    def handle(self, element: Stanza) -> None:
        """An element of the namespace of dialback. Raises `StreamError`."""
        type = element.attributes.get("type")
        try:
            sender, to = (prepare_domain(element.attributes[name]) for name in ("from", "to"))
        except (KeyError, InvalidJID):
            raise StreamError("improper-addressing", "dialback needs two valid domains") from None
        id = element.attributes.get("id", "")
        if element.name == "result":
            self._result(sender, to, type, element)
        elif element.name == "verify" and 0 < len(id) <= MAX_ID:
            self._verify(sender, to, id, type, element)
        else:
            raise StreamError("unsupported-stanza-type", "this is no dialback")

    def stop(self, reason: str) -> None:
        """The stream is over: no answer will come."""
        shown, self._shown = self._shown, {}
        asked, self._asked = self._asked, {}
        for answer in shown.values():
            answer.errback(unreachable(f"the stream was closed: {reason}"))
        for verified in asked.values():
            verified.errback(unreachable(f"the stream was closed: {reason}"))

    def _give_up(self, *what: str) -> None:
        """An answer is not waited for any more; where it comes, it is no attack."""
        if len(self._given_up) < MAX_GIVEN_UP:
            self._given_up.add(what)

    def _is_late(self, *what: str) -> bool:
        late = what in self._given_up
        self._given_up.discard(what)
        return late

    # ---- we show a key (section 2.1.1)

    def show(self, local: str, remote: str) -> Deferred[None]:
        """Show the key of one of our domains; fires once the peer has accepted it, fails with `Failed`."""
        stream = self._stream
        if stream.is_over or (local, remote) in self._shown:
            return fail(unreachable("the stream is closed, or was asked for this already"))

        def forget(_: object) -> None:
            self._shown.pop((local, remote), None)
            self._give_up(local, remote)

        shown: Deferred[None] = Deferred(forget)
        self._shown[local, remote] = shown
        key = dialback_key(stream.federation.dialback_secret, remote, local, stream.stream_id)
        stream.write(tag("db:result", {"from": local, "to": remote}, key))
        return shown

    def _result(self, sender: str, to: str, type: str | None, element: Stanza) -> None:
        if type is None:
            self._look_at(sender, to, element.text().strip())
            return
        shown = self._shown.pop((to, sender), None)
        if shown is None and self._is_late(to, sender):
            return
        if shown is None:
            raise StreamError("invalid-from", "this result was not asked for")
        if type == "valid":
            shown.callback(None)
        elif type == "invalid":
            text = "that server says that our dialback key is not ours"
            shown.errback(Failed("internal-server-error", text, lasting=True))
        else:
            shown.errback(unreachable(f"that server does not accept our dialback key: {_error_of(element)}"))

    # ---- we are shown a key (sections 2.2.1 and 2.1.2)

    def _look_at(self, remote: str, local: str, key: str) -> None:
        stream = self._stream
        if not stream.incoming and not stream.bidi:
            raise StreamError("not-authorized", "this stream is not for what you send")
        if (remote, local) in self._looking:
            raise StreamError("policy-violation", "this was asked already")
        if (remote, local) in stream.proven:
            self._say_result(remote, local, "valid")
            return
        self._looking.add((remote, local))
        stream.federation.server.tasks.start(self._judge(remote, local, key), "a dialback key")

    async def _judge(self, remote: str, local: str, key: str) -> None:
        stream = self._stream
        try:
            self._check(remote, local)
            how = await self._proof(remote, local, key)
        except Refused as refused:
            stream.log.warn(
                "{session}: {remote} is not proven for {local}: {why}",
                session=stream.id[:8], remote=remote, local=local, why=refused.why,
            )  # fmt: skip
            if refused.condition == "forbidden":  # section 2.2.1: the key is not theirs, and the stream is over
                self._say_result(remote, local, "invalid")
                stream.end(None, f"its dialback key for {remote} is not valid")
            else:
                self._say_result(remote, local, "error", _error(refused))
                self._refused += 1
                if self._refused >= MAX_REFUSED:
                    stream.end(StreamError("policy-violation", "too many keys were not accepted"))
        else:
            if not stream.is_over:
                self._say_result(remote, local, "valid")
                stream.prove(remote, local, how)
                if stream.bidi and stream.incoming:
                    stream.carry(local, remote, how)
        finally:
            self._looking.discard((remote, local))

    def _check(self, remote: str, local: str) -> None:
        """What has to hold before anybody is asked; raises `Refused`."""
        stream, federation = self._stream, self._stream.federation
        if not federation.is_ours(local):
            raise Refused("item-not-found", f"this server does not serve {local}")
        settings = federation.settings_of(local)
        if federation.is_ours(remote):
            raise Refused("not-acceptable", f"{remote} is served here")
        if is_blocked(settings, remote):
            raise Refused("policy-violation", f"{remote} is not spoken to")
        if settings[REQUIRE_ENCRYPTION] and not stream.transport.secure:
            raise Refused("policy-violation", "TLS has to come first")
        most = federation.settings[MAX_PAIRS] if stream.proven else MAX_UNPROVEN
        if len(stream.proven) + len(self._looking) > most:
            raise Refused("resource-constraint", "this stream has too many domains")

    async def _proof(self, remote: str, local: str, key: str) -> str:
        """How the peer shows that it is the server of `remote`: by its certificate, or because that server says that
        the key is its own. Raises `Refused`."""
        stream, federation = self._stream, self._stream.federation
        problem = federation.certificate_problem(stream, remote)
        if problem is None:
            return "certificate"
        if needs_certificate(federation.settings_of(local), remote):
            raise Refused("not-authorized", f"{remote} needs a valid certificate: {problem}")
        try:
            valid = await federation.opening.verify(stream, remote, local, stream.stream_id, key)
        except Failed as failed:
            raise Refused(
                "remote-server-not-found" if failed.lasting else "remote-connection-failed",
                "its server cannot be asked", f"its server cannot be asked: {failed.text}",
            ) from None  # fmt: skip
        if not valid:
            raise Refused("forbidden", "its server says that the dialback key is not its own")
        return "dialback"

    def _say_result(self, remote: str, local: str, type: str, error: bytes = b"") -> None:
        self._stream.write(tag("db:result", {"from": local, "to": remote, "type": type}, error))

    # ---- we ask whose a key is (section 2.1.2), and are asked (section 2.2.2)

    def ask(self, local: str, remote: str, id: str, key: str) -> Deferred[bool]:
        """Ask the server of `remote` whether it has shown a key on the stream `id`; fails with `Failed`."""
        if self._stream.is_over or (local, remote, id) in self._asked:
            return fail(unreachable("the stream is closed, or was asked this already"))

        def forget(_: object) -> None:
            self._asked.pop((local, remote, id), None)
            self._give_up(local, remote, id)

        asked: Deferred[bool] = Deferred(forget)
        self._asked[local, remote, id] = asked
        self._stream.write(tag("db:verify", {"from": local, "to": remote, "id": id}, key))
        return asked

    def _verify(self, sender: str, to: str, id: str, type: str | None, element: Stanza) -> None:
        stream = self._stream
        if type is None:
            federation = stream.federation
            refused = None
            if not federation.is_ours(to):
                refused = Refused("item-not-found", f"this server does not serve {to}")
            elif federation.settings_of(to)[REQUIRE_ENCRYPTION] and not stream.transport.secure:
                refused = Refused("policy-violation", "TLS has to come first")
            if refused is not None:
                attributes = {"from": to, "to": sender, "id": id, "type": "error"}
                stream.write(tag("db:verify", attributes, _error(refused)))
                return
            key = element.text().strip()
            valid = is_dialback_key(key, stream.federation.dialback_secret, sender, to, id)
            answer = "valid" if valid else "invalid"
            stream.write(tag("db:verify", {"from": to, "to": sender, "id": id, "type": answer}))
            return
        asked = self._asked.pop((to, sender, id), None)
        if asked is None and self._is_late(to, sender, id):
            return
        if asked is None:
            raise StreamError("invalid-from", "this answer was not asked for")
        if type in ("valid", "invalid"):
            asked.callback(type == "valid")
        else:
            asked.errback(unreachable(f"it answers with an error: {_error_of(element)}"))


def _error(refused: Refused) -> bytes:
    """The ``<error/>`` of section 2.4; its conditions are more than those of stanzas."""
    type = STANZA_CONDITIONS.get(refused.condition, "cancel")
    text = tag("text", {"xmlns": ns.STANZA_ERRORS, "xml:lang": "en"}, refused.text)
    return tag("error", {"type": type}, tag(refused.condition, {"xmlns": ns.STANZA_ERRORS}), text)


def _error_of(element: Stanza) -> str:
    """The condition and the text of a peer's error."""
    for error in element.tree.elements():
        if error.name == "error":
            children = [child for child in error.elements() if child.uri == ns.STANZA_ERRORS]
            names = [str(child.name)[:64] for child in children if child.name != "text"]
            texts = [str(child)[:200] for child in children if child.name == "text"]
            return escaped(": ".join([*names[:1], *texts[:1]])) or "no condition"
    return "no condition"
