"""Random elements, spelt in the many ways in which XML allows to spell one."""

from __future__ import annotations

from hypothesis import strategies as st

NAMESPACES = ("jabber:client", "urn:one", "urn:two", "urn:three#x")
HEADER_PREFIXES = {"h": "urn:header", "c": "jabber:client", "a0": "urn:a0"}

CHARACTERS = st.one_of(
    st.sampled_from("ax /<>&'\"=]\t\r\n\u00e9\u6f22\U0001f600"),
    st.characters(codec="utf-8", exclude_characters="\ufffe\uffff", exclude_categories=["Cc", "Cs"]),
)
TEXT = st.text(CHARACTERS, max_size=8)
ENTITIES = {"<": "&lt;", "&": "&amp;", ">": "&gt;", "'": "&apos;", '"': "&quot;"}


@st.composite
def spelt_text(draw: st.DrawFn) -> str:
    """Character data, each character in one of its spellings, some of it in CDATA."""
    parts = []
    for chunk in draw(st.lists(TEXT, max_size=3)):
        if draw(st.booleans()) and "]]>" not in chunk:
            parts.append(f"<![CDATA[{chunk}]]>")
        else:
            parts.append("".join(spell(draw, character, "<&") for character in chunk).replace("]]>", "]]&gt;"))
    return "".join(parts).replace("]]>]]>", "]]>")


def spell(draw: st.DrawFn, character: str, must: str) -> str:
    """One character as itself, where it may be, or as a reference."""
    way = draw(st.integers(0, 5))
    if way == 0:
        return f"&#{ord(character)};"
    if way == 1:
        return f"&#x{ord(character):x};"
    if character in must or (character in ENTITIES and way == 2):
        return ENTITIES[character]
    return character


@st.composite
def spelt_attribute(draw: st.DrawFn, name: str) -> str:
    quote = draw(st.sampled_from("'\""))
    value = "".join(spell(draw, character, "<&" + quote) for character in draw(TEXT))
    space = draw(st.sampled_from(["", " ", "\n"]))
    return f"{name}{space}={space}{quote}{value}{quote}"


SPACE = st.sampled_from([" ", "  ", "\n", "\t ", " \r\n"])
END = st.sampled_from(["", "", " ", "\n"])
NAMES = st.sampled_from(["a", "body", "x", "message-1", "_y.z", "\u00e9l"])


@st.composite
def element(
    draw: st.DrawFn, name: str | None = None, prefixes: tuple[str, ...] = (), depth: int = 0, maximum: int = 3
) -> str:
    """An element as text. `prefixes` are those that may be used, declared further out."""
    local = name or draw(NAMES)
    declared: dict[str, str] = {}
    if draw(st.integers(0, 3)) == 0:
        declared[draw(st.sampled_from(["p", "q", "a0", "h"]))] = draw(st.sampled_from(NAMESPACES))
    usable = tuple({*prefixes, *declared})
    prefix = draw(st.sampled_from(["", "", *usable])) if name is None and usable else ""
    attributes = [f"xmlns:{key}='{value}'" for key, value in declared.items()]
    if name is None and draw(st.integers(0, 3)) == 0:
        attributes.append(f'xmlns="{draw(st.sampled_from(("", *NAMESPACES)))}"')
    wanted = draw(st.lists(st.sampled_from(["id", "type", "to", "xml:lang", "q"]), max_size=3, unique=True))
    if usable and draw(st.integers(0, 3)) == 0:
        wanted.append(f"{draw(st.sampled_from(usable))}:z")
    attributes += [draw(spelt_attribute(one)) for one in wanted]
    order = draw(st.permutations(attributes))
    tag = f"{prefix}:{local}" if prefix else local
    start = tag + "".join(draw(SPACE) + attribute for attribute in order)
    content = ""
    if depth < maximum:
        children = draw(st.lists(element(prefixes=usable, depth=depth + 1, maximum=maximum), max_size=3))
        for child in children:
            content += draw(spelt_text()) if draw(st.booleans()) else ""
            content += child
    content += draw(spelt_text()) if draw(st.booleans()) else ""
    if not content and draw(st.booleans()):
        return f"<{start}{draw(END)}/>"
    return f"<{start}{draw(END)}>{content}</{tag}{draw(END)}>"


STANZA_NAMES = st.sampled_from(["message", "presence", "iq"])


@st.composite
def stanzas(draw: st.DrawFn, prefixes: tuple[str, ...] = ()) -> str:
    """A message, presence or iq; with its own prefix at times, where there is one for its namespace."""
    text = draw(element(draw(STANZA_NAMES), prefixes))
    return text


@st.composite
def splits(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """The same bytes in pieces."""
    if draw(st.integers(0, 5)) == 0:
        return [data[index : index + 1] for index in range(len(data))]
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[one:other] for one, other in zip([0, *cuts], [*cuts, len(data)], strict=True)]
