"""Tags of any usual scheme to IOB2, whose every entity starts with `B-`. Pure Python."""

import functools
import re
from collections import Counter
from collections.abc import Iterable, Sequence


# What a prefix says, whatever the scheme: no letter means two things.
_MEANING = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S", "M": "I", "W": "S"}

# Of schemes with the same letters the commoner comes first.
_PREFIXES = {"IOB2": "BI", "IOB1": "BI", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES", "BMEWO": "BMEW", "IO": "I"}
TAG_SCHEMES = tuple(_PREFIXES)
_MAYBE_PREFIXED = re.compile(r"^[BIESLUMW](\W|_|$)|(\W|_)[BIESLUMW]$", re.IGNORECASE)


@functools.lru_cache(maxsize=4096)
def split_tag(tag: str, scheme: str | None = None) -> tuple[str, str]:
    """
    Prefix and entity type; `("O", "")` outside every entity. A ValueError tells what is no tag of the scheme, or of
    any of the `TAG_SCHEMES` if that is None. In IO a bare type is a tag too.
    """
    if tag == "O":
        return "O", ""
    if scheme == "IO" and tag and not is_prefixed(tag):
        return "I", tag
    prefix, dash, entity_type = tag.partition("-")
    allowed = _MEANING if scheme is None else _PREFIXES[scheme]
    if not dash or not entity_type or len(prefix) != 1 or prefix not in allowed:
        raise ValueError(
            f"expected O, or one of {', '.join(allowed)}, a dash and an entity type, as in B-PER, got {tag!r}; where "
            "every tag is O or a bare type, name the tag_scheme IO"
        )
    return prefix, entity_type


def is_prefixed(tag: str) -> bool:
    """Whether a tag that is not `O` begins as those of the schemes with prefixes do."""
    return tag[1:2] == "-" and tag[:1] in _MEANING


def is_bare_type(tag: str) -> bool:
    """Whether a tag is a type alone, and nothing as `b-PER`, `B_PER`, `PER-B` or `B`, which may mean a prefix."""
    return bool(tag) and not _MAYBE_PREFIXED.search(tag)


def inside(tag: str) -> str:
    """A tag of the scheme IO with its prefix, which most files leave out: `PER` is `I-PER`."""
    return tag if tag == "O" or is_prefixed(tag) else f"I-{tag}"


def to_iob2(tags: Sequence[str]) -> tuple[list[str], int]:
    """
    The same entities in IOB2, and how many tags are others than before.

    An entity ends where its scheme says so, where the type changes and at `O`; whatever follows then starts one, also
    an `I-` that continues nothing, as seqeval's default mode reads it.
    """
    iob2 = []
    open_type = None  # The next tag may continue an entity of this type.
    for tag in tags:
        prefix, entity_type = split_tag(tag)
        if prefix == "O":
            iob2.append("O")
            open_type = None
            continue
        meaning = _MEANING[prefix]
        starts = meaning in "BS" or entity_type != open_type
        iob2.append(f"{'B' if starts else 'I'}-{entity_type}")
        open_type = None if meaning in "ES" else entity_type
    return iob2, sum(before != after for before, after in zip(tags, iob2, strict=True))


class TagSchemeDetector:
    """Which scheme a whole data set is tagged in: `add` every sentence, then ask for the `scheme`."""

    def __init__(self) -> None:
        self.prefixes: Counter[str] = Counter()
        self._stray_starts = 0  # I- tags that continue nothing
        self._needless_starts = 0  # B- tags not directly after an entity of the same type

    def add(self, tags: Iterable[str]) -> None:
        parts = [split_tag(tag) for tag in tags]
        before = ""
        for prefix, entity_type in parts:
            self.prefixes[prefix] += 1
            self._stray_starts += prefix == "I" and before != entity_type
            self._needless_starts += prefix == "B" and before != entity_type
            before = entity_type

    @property
    def scheme(self) -> str | None:
        """
        One of `TAG_SCHEMES`; None where no entity was tagged.

        Where the letters are `B` and `I` alone, it is IOB1 if some `I-` starts an entity and no `B-` does so except
        directly after an entity of the same type. A ValueError counts prefixes that no one scheme has.
        """
        letters = self.prefixes.keys() - {"O"}
        if not letters:
            return None
        if letters <= set("BI"):
            return "IOB1" if self._stray_starts and not self._needless_starts else "IOB2"
        fitting = [scheme for scheme, prefixes in _PREFIXES.items() if letters <= set(prefixes)]
        if not fitting:
            counts = ", ".join(f"{self.prefixes[letter]} {letter}-" for letter in sorted(letters))
            raise ValueError(
                f"expected tags of one scheme of {', '.join(TAG_SCHEMES)}, got prefixes of several: {counts}"
            )
        return fitting[0]
