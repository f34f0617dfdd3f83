"""A made-up archive of an account, and questions to it whose answers are known."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from zlib import crc32

from xmppd.modules.mam.ids import Ids, to_text
from xmppd.wire import ns
from xmppd.wire.delay import stamp

PAGE = 50  # messages
STEP_MS = 60_000  # from one message to the next
WINDOW = 1000  # messages between the `start` and the `end` of a question about a time
SMALLEST = 4 * WINDOW  # an archive
LOCAL, HOST = "juliet", "localhost"
OWNER = f"{LOCAL}@{HOST}"
PASSWORD = "secret"  # noqa: S105 - of a throw-away server
CONTACTS = tuple(f"contact{number}@localhost" for number in range(7))
OLD_DEVICE = 1000  # messages after which the first contact has another device
RARE = "rare@localhost"  # somebody with 50 messages in all, far apart


# ---- what is in the archive


@dataclass(frozen=True)
class History:
    """The messages of an account. Each follows from its index, so that the answers are known without being kept."""

    size: int
    end_ms: int

    def when(self, index: int) -> int:
        """When a message came, in milliseconds since 1970."""
        return self.end_ms - (self.size - index) * STEP_MS + index % 1000

    def id(self, index: int) -> str:
        """The id of a message, such as the server makes."""
        return to_text(Ids(lambda: self.when(index), random.Random(index).getrandbits).make())

    def contact(self, index: int) -> str:
        """Whom a message is from or to."""
        far_apart = self.size // PAGE
        if index % far_apart == far_apart // 2:
            return RARE
        return CONTACTS[crc32(b"%d" % index) % len(CONTACTS)]

    def device(self, index: int) -> str:
        """The resource of whom a message is from or to."""
        return "tablet" if index < OLD_DEVICE and self.contact(index) == CONTACTS[0] else "phone"

    def body(self, index: int) -> str:
        """The text of a message."""
        return f"Message {index} of {self.size}. " + "What's in a name? " * (index % 5)

    def result(self, index: int) -> str:
        """A message as it stands in a file of users."""
        contact = f"{self.contact(index)}/{self.device(index)}"
        sender, to = (contact, OWNER) if index % 2 else (f"{OWNER}/laptop", contact)
        return (
            f"<result xmlns='{ns.MAM}' id='{self.id(index)}'><forwarded xmlns='{ns.FORWARD}'>"
            f"<delay xmlns='{ns.DELAY}' stamp='{stamp(self.when(index))}'/>"
            f"<message xmlns='{ns.CLIENT}' from='{sender}' to='{to}' type='chat' id='m{index}'>"
            f"<body>{self.body(index)}</body></message></forwarded></result>\n"
        )

    def write(self, path: Path) -> None:
        """Write the account with its archive as XEP-0227 has it."""
        with path.open("w") as file:
            file.write(f"<server-data xmlns='{ns.PIE}'><host jid='{HOST}'>\n")
            file.write(f"<user name='{LOCAL}' password='{PASSWORD}'>\n")
            file.write(f"<archive xmlns='{ns.PIE_MAM}'>\n")
            file.writelines(map(self.result, range(self.size)))
            file.write("</archive></user></host></server-data>\n")


# ---- what is asked for


@dataclass(frozen=True)
class Question:
    """A query: the fields of its form, the ``<before/>`` if there is one, and the indices of what has to come."""

    form: dict[str, str]
    before: str | None
    expected: Sequence[int]

    def to_xml(self, id: str) -> str:
        """The request."""
        fields = "".join(f"<field var='{name}'><value>{value}</value></field>" for name, value in self.form.items())
        kind = f"<field var='FORM_TYPE' type='hidden'><value>{ns.MAM}</value></field>"
        form = f"<x xmlns='jabber:x:data' type='submit'>{kind}{fields}</x>" if fields else ""
        before = f"<before>{self.before}</before>" if self.before is not None else ""
        page = f"<set xmlns='{ns.RSM}'><max>{PAGE}</max>{before}</set>"
        return f"<iq type='set' id='{id}'><query xmlns='{ns.MAM}'>{form}{page}</query></iq>"


def last_page(history: History, chance: random.Random) -> Iterator[Question]:
    """The end of the archive, as a client asks for it that has nothing yet."""
    while True:
        yield Question({}, "", range(history.size - PAGE, history.size))


def paging_back(history: History, chance: random.Random) -> Iterator[Question]:
    """The page before the last, and the one before that; from the end again when the beginning is reached."""
    while True:
        for end in range(history.size - PAGE, PAGE - 1, -PAGE):
            yield Question({}, history.id(end), range(end - PAGE, end))


def middle(history: History, chance: random.Random) -> Iterator[Question]:
    """A page before any id in the inner half of the archive."""
    while True:
        end = chance.randrange(history.size // 4, 3 * history.size // 4)
        yield Question({}, history.id(end), range(end - PAGE, end))


def first_page(history: History, chance: random.Random) -> Iterator[Question]:
    """The beginning of the archive."""
    while True:
        yield Question({}, None, range(PAGE))


def contact_and_time(history: History, chance: random.Random) -> Iterator[Question]:
    """The first messages with a contact between two times in the inner half of the archive."""
    while True:
        start = chance.randrange(history.size // 4, 3 * history.size // 4 - WINDOW)
        window = range(start, start + WINDOW)
        contact = chance.choice(CONTACTS)
        form = {"with": contact, "start": stamp(history.when(start)), "end": stamp(history.when(window[-1]))}
        found = (index for index in window if history.contact(index) == contact)
        yield Question(form, None, list(islice(found, PAGE)))


def rare_contact(history: History, chance: random.Random) -> Iterator[Question]:
    """All messages with somebody with whom there are few: they lie all over the archive."""
    far_apart = history.size // PAGE
    while True:
        yield Question({"with": RARE}, None, range(far_apart // 2, far_apart * PAGE, far_apart))


def old_device(history: History, chance: random.Random) -> Iterator[Question]:
    """The last messages with a device that a contact has not had since the beginning of the archive."""
    found = [index for index in range(OLD_DEVICE) if history.device(index) == "tablet"]
    while True:
        yield Question({"with": f"{CONTACTS[0]}/tablet"}, "", found[-PAGE:])


KINDS: dict[str, Callable[[History, random.Random], Iterator[Question]]] = {
    "last page": last_page,
    "paging back from the end": paging_back,
    "page in the middle": middle,
    "first page": first_page,
    "contact and time, in the middle": contact_and_time,
    "contact with 50 messages in all": rare_contact,
    "old device of a contact": old_device,
}
