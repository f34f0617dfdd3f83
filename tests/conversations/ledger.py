"""What users with several devices each were sent, on every way: whether it is all there, once, and in order."""

from __future__ import annotations

from typing import Literal, NamedTuple

from tests.conversations.load import Key, Tally

Way = Literal["direct", "sent", "received"]  # to the device itself, or as a copy of what another one sent or received
SHOWN = 40  # problems in a report


class Entry(NamedTuple):
    """A message in an archive: the id that the server gave it, and what it is."""

    id: str
    key: Key


def user(device: str) -> str:
    """Whose device that is."""
    return device.partition("/")[0]


def to_id(key: Key) -> str:
    """The id of a message in its stanza."""
    return f"{key.sender}:{key.receiver}:{key.number}"


def from_id(id: str) -> Key:
    """What `to_id` has named; ValueError for anything else."""
    sender, receiver, number = id.split(":")
    return Key(sender, receiver, int(number))


class Ledger(Tally):
    """A tally where devices send to users. A device is called ``user/resource``; those that are `steady` have one
    session from the first message to the last, so that they have to get everything."""

    def __init__(self) -> None:
        super().__init__()
        self.devices: dict[str, set[str]] = {}  # of each user, all that there ever are
        self.steady: set[str] = set()
        self.ways: dict[str, int] = {"direct": 0, "sent": 0, "received": 0, "delayed": 0}
        self._wrong: list[str] = []
        self._got: dict[str, dict[Key, str]] = {}  # by each device, with the ids of the archive
        self._last: dict[tuple[str, str, str], int] = {}  # by device, sender and receiver

    def enroll(self, device: str, steady: bool) -> None:
        """There is a device."""
        self.devices.setdefault(user(device), set()).add(device)
        self._got.setdefault(device, {})
        if steady:
            self.steady.add(device)

    # ---- told by the clients

    def got(self, device: str, key: Key, way: Way, id: str, delayed: bool) -> None:
        """A device has got a message, pushed by the server, with this id in its user's archive."""
        self.arrivals += 1
        self.ways[way] += 1
        self.ways["delayed"] += delayed
        if key not in self.fates:
            self.wrong(f"{device} got {key}, which nobody sent")
            return
        self.fates[key].delayed |= delayed
        whose = user(key.sender) if way == "sent" else key.receiver
        if whose != user(device) or key.sender == device:
            self.wrong(f"{device} got {key}, which is not for it ({way})")
        if not id:
            self.wrong(f"{device} got {key} without an id of the archive ({way})")
        if key in self._got[device]:
            self.wrong(f"{device} got {key} twice ({way}); {self.fates[key]}")
        elif key.number < self._last.get((device, *key[:2]), -1):
            last = self._last[device, key.sender, key.receiver]
            self.wrong(f"{device} got {key} after number {last} ({way}); {self.fates[key]}")
        self._got[device][key] = id
        self._last[device, key.sender, key.receiver] = max(key.number, self._last.get((device, *key[:2]), -1))

    def wrong(self, what: str) -> None:
        """Something is not as it has to be."""
        self._wrong.append(f"{what}, {self.round}")

    # ---- asked by the tests

    def missing(self) -> list[str]:
        """What is not where it has to be by now."""
        found = []
        for key, fate in self.fates.items():
            if not fate.acknowledged:
                found.append(f"{key} is not acknowledged; {fate}")
                continue
            receiving = self.devices[key.receiver]
            if not any(key in self._got[device] for device in receiving):
                found.append(f"{key} reached no device; {fate}")
            for device in ((receiving | self.devices[user(key.sender)]) & self.steady) - {key.sender}:
                if key not in self._got[device]:
                    found.append(f"{key} did not reach {device}; {fate}")
        return found

    def problems(self) -> list[str]:
        """Everything that is wrong so far, and what is missing."""
        returned = [f"{key} came back: {fate.returned}" for key, fate in self.fates.items() if fate.returned]
        return [*self._wrong, *returned, *self.missing()]

    def came_back(self) -> list[str]:
        """That is among the `problems` here."""
        return []

    def check_archive(self, name: str, entries: list[Entry]) -> list[str]:
        """What is wrong with the whole archive of a user: each message is there once, in order, under the id with which
        every device got it."""
        found: list[str] = []
        ids: dict[Key, str] = {}
        last: dict[tuple[str, str], int] = {}
        for id, key in entries:
            if key in ids:
                found.append(f"the archive of {name} has {key} twice")
            if key.number < last.get(key[:2], -1):
                found.append(f"the archive of {name} has {key} after number {last[key[:2]]}")
            last[key[:2]] = key.number
            ids[key] = id
        theirs = {key for key in self.fates if name in (user(key.sender), key.receiver)}
        found += [f"the archive of {name} lacks {key}; {self.fates[key]}" for key in sorted(theirs - ids.keys())]
        found += [f"the archive of {name} has {key}, which is not theirs" for key in sorted(ids.keys() - theirs)]
        for device in sorted(self.devices[name]):
            other = [key for key, id in self._got[device].items() if ids.get(key, id) != id]
            found += [f"{device} got {key} with another id than the archive of {name} has" for key in other]
        return found

    def report(self) -> str:
        """All of it in a few lines."""
        problems = self.problems()
        ways = ", ".join(f"{count:,} {way}" for way, count in self.ways.items())
        heads = f"{len(self.fates):,} messages sent, {self.arrivals:,} arrivals ({ways}), {len(problems)} problems"
        return "\n".join([heads, *problems[:SHOWN]])
