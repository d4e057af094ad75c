"""Shows text that nobody vouches for: no character of it can steer the terminal or pass for something else."""

import unicodedata

# Control and format characters (escape sequences, changes of writing direction, zero width), half surrogate pairs,
# unassigned ones, and the separators that some programs take for line ends.
_ESCAPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def neutralise(text: str, *, keep: str = "", before: str = "", after: str = "") -> str:
    r"""Replace characters that a terminal would act on by their escapes, such as `\x1b` or `\u202e`.

    Characters in `keep` stay; each escape stands between `before` and `after`.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character
        if character in keep or unicodedata.category(character) not in _ESCAPED_CATEGORIES
        else f"{before}{_escape(character)}{after}"
        for character in text
    )


def _escape(character: str) -> str:
    shown = repr(character)[1:-1]
    if shown != character:
        return shown
    # repr() leaves what it calls printable.
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
