"""Tags of any usual scheme to IOB2, whose every entity starts with `B-`. Pure Python."""

import functools
from collections import Counter
from collections.abc import Iterable, Sequence


# What a prefix says, whatever the scheme: no letter means two things.
_MEANING = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S", "M": "I", "W": "S"}

# Of schemes with the same letters the commoner comes first.
_PREFIXES = {"IOB2": "BI", "IOB1": "BI", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES", "BMEWO": "BMEW"}
TAG_SCHEMES = tuple(_PREFIXES)


@functools.lru_cache(maxsize=4096)
def split_tag(tag: str, scheme: str | None = None) -> tuple[str, str]:
    """
    Prefix and entity type; `("O", "")` outside every entity. A ValueError tells what is no tag of the scheme, or of
    any of the `TAG_SCHEMES` if that is None.
    """
    if tag == "O":
        return "O", ""
    prefix, dash, entity_type = tag.partition("-")
    allowed = _MEANING if scheme is None else _PREFIXES[scheme]
    if not dash or not entity_type or len(prefix) != 1 or prefix not in allowed:
        raise ValueError(
            f"expected O, or one of {', '.join(allowed)}, a dash and an entity type, as in B-PER, got {tag!r}"
        )
    return prefix, entity_type


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
