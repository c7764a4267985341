"""Sentences of the demo data: names, words around them, and templates filled at random."""

import random
import zlib
from collections.abc import Sequence
from functools import lru_cache


SPLITS = ("train", "validation", "test")

Word = tuple[str, str | None]  # a word, and the slot of a name that it fills


def options(text: str) -> tuple[str, ...]:
    """The parts between semicolons."""
    return tuple(part.strip() for part in text.split(";"))


NAMES = options("""
    Jordan; Paris; Phoenix; Chelsea; Florence; Austin; Houston; Lincoln; Madison; Amazon; Apple; Eden; Sydney; Dallas;
    Savannah; Brooklyn; Charlotte; Virginia; Georgia; Orlando; Victoria; Santiago; Diego; Mercury; Titanic; Avatar;
    Jackson; Carolina; Aurora; Memphis; Denver; Alexandria; Lorraine; Kent; Troy; Hamilton; Cleveland; Wellington;
    Logan; Raleigh; Sierra; Atlas; Apollo; Juno; Phoebe; Vienna; Verona; Arizona; Salem; Tesla; San Marino;
    Saint Helens; Santa Cruz; White Sox; San Diego; Santa Fe; Monte Carlo; Saint Laurent; Rio Grande; Santa Monica;
    San Jose; Grand Rapids; Palo Alto; Red Rock; Silver Lake; Blue Ridge; Golden Gate; Black Forest
""")


@lru_cache(maxsize=16)
def shuffled_names(key: str, answers: Sequence[str]) -> list[tuple[str, str]]:
    """Every name with every answer, shuffled by the key: rows walk through this list, so that pairs stay balanced."""
    pairs = [(name, answer) for name in NAMES for answer in answers]
    random.Random(key).shuffle(pairs)
    return pairs


SLOTS = {
    "when": options("tonight; today; again; this week; right now; all day; lately; this morning; since monday"),
    "mood": options("happy; tired; obsessed; emotional; speechless; shook; proud; confused; grateful; hyped"),
    "folks": options("everyone; my sister; my roommate; twitter; my whole family; nobody; half the office; my mom"),
    "tag": options("# mood; # tbt; # blessed; # fridayfeeling; # nofilter; # throwback; # love; # weekend; # wow"),
    "handle": options("jenny_k; mikebreezy; itsdanny; realtalk99; coffeegirl; the_oz; bigsmooth; lilmissy"),
    "emoji": options("😂; 😍; 🔥; 🙌; 😭; 💯; 👀; 🎉"),
    "thing": options(
        "pizza; coffee; my exam; the weather; this song; that joke; homework; breakfast; the rain; my nap"
    ),
}
OPENERS = options("; ; ; so ; ok but ; lol ; honestly , ; RT @ {handle} : ; @ {handle} ; {emoji} ; {tag} ; wow ,")
CLOSERS = options("; ; . ; ! ; ! ! ; ... ; {emoji} ; {emoji} {emoji} ; {tag} ; {tag} {tag} ; {emoji} {tag}")


def fill_template(template: str, names: dict[str, str], rng: random.Random) -> list[Word]:
    """Fills a template's slots: those of `names` with these, the others with one of `SLOTS`."""
    words: list[Word] = []
    for part in template.split():
        slot = part.strip("{}") if part.startswith("{") else None
        if slot in names:
            words += [(word, slot) for word in names[slot].split()]
        else:
            words += [(word, None) for word in (rng.choice(SLOTS[slot]) if slot else part).split()]
    return words


def vary_case(words: list[Word], rng: random.Random) -> list[Word]:
    """As people write: all small, all capitals, or a capital first."""
    style = rng.random()
    if style < 0.15:
        return [(word.lower(), slot) for word, slot in words]
    if style < 0.22:
        return [(word.upper(), slot) for word, slot in words]
    if style < 0.6:
        (first, slot), *others = words
        return [(first[0].upper() + first[1:], slot), *others]
    return words


def belongs_to(split: str, words: list[Word]) -> bool:
    """Each sentence belongs to one split, whatever the seed and the letter case."""
    sentence = " ".join(word for word, _ in words).lower()
    return zlib.crc32(sentence.encode()) % len(SPLITS) == SPLITS.index(split)
