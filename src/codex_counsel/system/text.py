r"""Text on its way out: without what terminals and JSON cannot take, with nothing hidden in it, and of bounded length.

**The rule.** A character that shows nothing, or that changes the order in which others
are shown, is written as its code point, `<U+202E>`. These are: controls, bidirectional
controls, line separators other than CR and LF, zero-width and tag characters, variation
selectors, fillers, and everything else that Unicode calls default-ignorable. Kept are
those without which a text would be damaged, each only directly beside what needs it:

- tab and LF, and a CR directly before LF;
- in an emoji, one variation selector and the joiners, and the three flags that Unicode
  makes of tags;
- joiners after a letter of a script that joins (Arabic, the scripts of India, ...),
  zero-width spaces beside Thai, Lao, Khmer and Burmese letters, Mongolian selectors
  after Mongolian letters, one ideographic selector after a Han character, a blank
  beside other Braille patterns;
- in prose only: the marks LRM, RLM and ALM within ten characters of a right-to-left
  letter, as in an Arabic sentence that ends with the name `C++`.

`visible` is for what a reader must judge, such as a diff or a quotation: it drops
nothing. `clean` is for all other text: it drops controls and the sequences made of
them, and turns a CR alone into a line end. Both leave their own output as it is. A text
that has such a spelling in it anyway stays as it is: that may alarm, but hides nothing.
"""

from __future__ import annotations

import re
from functools import cache

from codex_counsel.system.json_values import Json

_HIDDEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufffb\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
)
"""Unicode's default-ignorable characters, and others that show nothing. Surrogates cannot be encoded in UTF-8."""
_RIGHT_TO_LEFT = "\u0590-\u061b\u061d-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff"
_EMOJI = (
    "\xa9\xae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff"
    "\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
)
_JOINING = (
    "\u0600-\u061b\u061d-\u0dff\u1000-\u109f\u1780-\u17b3\u17b6-\u17ff\u1820-\u18af\ua840-\ua87f"
    "\ufb50-\ufdff\ufe70-\ufefc"
)
_WITHOUT_SPACES = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17b3\u17b6-\u17ff"
_MONGOLIAN = "\u1820-\u18af"
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_BRAILLE = "\u2801-\u28ff"

NEAR = 10
"""Characters from a right-to-left letter to a mark that belongs to it."""
_CSI = re.compile("\x1b\\[[0-9;?]{0,32}[ -/]{0,4}[@-~]")
"""Terminal sequences that set a style or move the cursor."""
SPELLED_OUT = re.compile(r"<U\+[0-9A-F]{4,6}>")
"""What stands for a character that was written out."""

_FIRST_SURROGATE, _LAST_SURROGATE = "\ud800", "\udfff"
_REPLACEMENT = "\ufffd"


# Compiled at their first use: most texts are plain ASCII, and the worker must start
# fast.
@cache
def _hidden() -> re.Pattern[str]:
    """A hidden character, or one of the flags that are made of tags."""
    return re.compile(f"[{_HIDDEN}]|{'|'.join(_tag_flags())}")


@cache
def _ordinary() -> re.Pattern[str]:
    """A hidden character that its text needs: see the module."""
    return re.compile(
        "|".join(
            (
                "\r(?=\n)",
                f"(?<=[{_EMOJI}])[\ufe0e\ufe0f]",
                "(?<=[#*0-9])\ufe0f(?=\u20e3)",
                f"(?<=[{_EMOJI}])\u200d(?=[{_EMOJI}])",
                f"(?<=[{_EMOJI}]\ufe0f)\u200d(?=[{_EMOJI}])",
                f"(?<=[{_JOINING}])[\u200c\u200d]",
                f"(?<=[{_WITHOUT_SPACES}])\u200b",
                f"\u200b(?=[{_WITHOUT_SPACES}])",
                f"(?<=[{_MONGOLIAN}])[\u180b-\u180f]",
                f"(?<=[{_HAN}])[\U000e0100-\U000e01ef]",
                f"(?<=[{_BRAILLE}])\u2800",
                f"\u2800(?=[{_BRAILLE}])",
                *_tag_flags(),
            )
        )
    )


@cache
def _ordinary_in_prose() -> re.Pattern[str]:
    """LRM, RLM or ALM, and a right-to-left letter next to it or behind some characters that are not hidden."""
    between = [f"[^{_HIDDEN}]{{{count}}}" for count in range(NEAR)]
    before = [f"(?<=[{_RIGHT_TO_LEFT}]{gap})" for gap in between]
    after = f"(?=[^{_HIDDEN}]{{0,{NEAR - 1}}}[{_RIGHT_TO_LEFT}])"
    return re.compile(
        f"[\u200e\u200f\u061c]{after}|(?:{'|'.join(before)})[\u200e\u200f\u061c]"
    )


def _tag_flags() -> list[str]:
    """The flags of England, Scotland and Wales."""
    flags = []
    for region in ("gbeng", "gbsct", "gbwls"):
        tags = "".join(chr(0xE0000 + ord(letter)) for letter in region)
        flags.append(f"\U0001f3f4{tags}\U000e007f")
    return flags


def clean(text: str) -> str:
    """Drop control characters and sequences that style or move; write out what else is hidden, as the module says.

    Of any other terminal sequence only its control characters are dropped: its text may
    be more than the title of a window. Lone surrogates become U+FFFD.
    """
    if text.isascii() and text.isprintable():
        return text
    return _hidden().sub(_cleaned, _CSI.sub("", text))


def _cleaned(match: re.Match[str]) -> str:
    if _is(_ordinary(), match) or _is(_ordinary_in_prose(), match):
        return match[0]
    if match[0] == "\r":
        return "\n"
    if match[0] < " " or "\x7f" <= match[0] <= "\x9f":
        return ""
    return _spelled_out(match[0])


def visible(text: str) -> str:
    """Write out every character that is hidden, as the module says, so that nothing can hide between the others."""
    if text.isascii() and text.isprintable():
        return text
    return _hidden().sub(_made_visible, text)


def _made_visible(match: re.Match[str]) -> str:
    if _is(_ordinary(), match):
        return match[0]
    return _spelled_out(match[0])


def _is(pattern: re.Pattern[str], match: re.Match[str]) -> bool:
    """Whether the pattern matches in the same place, with a view of the text on both sides."""
    return bool(pattern.match(match.string, match.start()))


def _spelled_out(character: str) -> str:
    if _FIRST_SURROGATE <= character <= _LAST_SURROGATE:
        return _REPLACEMENT
    return f"<U+{ord(character):04X}>"


def json_escaped(text: str) -> str:
    r"""JSON text in which hidden characters are escapes such as `\u202e`: another spelling of the same values."""
    return _hidden().sub(_json_escape, text)


def _json_escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    pairs = zip(units[::2], units[1::2], strict=True)
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in pairs)


def clean_tree(value: Json) -> Json:
    """`clean` for every string of a JSON-like value, keys too. Tuples become lists."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(key)): clean_tree(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_tree(item) for item in value]
    return value


def decode(data: bytes) -> str:
    """A child's output as clean text. Bytes that are not UTF-8 become U+FFFD."""
    return clean(data.decode("utf-8", "replace"))


def one_line(text: str, limit: int = 200) -> str:
    """The text on one line of at most `limit` characters; a cut is marked by an ellipsis."""
    flat = " ".join(text.split())
    if len(flat) <= limit:
        return flat
    return flat[: limit - 1] + "…"


def size(text: str) -> int:
    """UTF-8 bytes; a lone surrogate counts as one byte, as `?` replaces it."""
    return len(text.encode("utf-8", "replace"))


def cut(text: str, limit: int) -> str:
    """The longest prefix of at most `limit` UTF-8 bytes, cut between code points."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return text
    return data[: max(limit, 0)].decode("utf-8", "ignore")
