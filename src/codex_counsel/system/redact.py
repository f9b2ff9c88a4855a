"""What must not leave the machine: tokens and private keys, known by their shapes.

A token is replaced by `[masked:<kind>]`. The number of lines stays, and so does what
precedes a token on its line, so a masked diff is still a diff. Every pattern begins
with a literal and then matches or fails within a bounded distance: the time is linear
in the length of the text.

Most shapes are in `data/tokens.txt` and `data/assigned_tokens.txt`, with their sources.
They are read at the first use, and a pattern is compiled when a text has its prefix.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

DATA = os.path.join(os.path.dirname(__file__), "data")  # noqa: PTH118, PTH120  # the worker waits for pathlib


@dataclass(frozen=True)
class MaskRule:
    """One shape of tokens. Without one of the literals `hints` the pattern cannot match; its group `keep` stays."""

    kind: str
    hints: tuple[str, ...]
    pattern: str

    def applies(self, text: str) -> bool:
        """A fast test that spares most texts the search by pattern."""
        return any(hint in text for hint in self.hints)

    def mask(self, text: str) -> tuple[str, int]:
        """The text with the tokens replaced, and their number."""
        pattern = _compiled(self.pattern)
        keep = ""
        if "keep" in pattern.groupindex:
            keep = r"\g<keep>"
        return pattern.subn(f"{keep}[masked:{self.kind}]", text)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)


def read_data(name: str) -> Iterator[str]:
    """The lines of a data file, without comments and blank ones."""
    path = os.path.join(DATA, name)  # noqa: PTH118
    with open(path, encoding="ascii") as file:  # noqa: PTH123
        for line in file:
            text = line.strip()
            if text and not text.startswith("#"):
                yield text


# --- tokens with a prefix

MIN_TOKEN = 20
"""No token with a prefix has fewer characters, the prefix included."""
CLASSES = {
    "{hex}": "[0-9a-f]",
    "{HEX}": "[0-9A-Fa-f]",
    "{id}": "[0-9A-Za-z]",
    "{word}": r"[\w-]",
    "{b64}": "[0-9A-Za-z+/]",
    "{digit}": "(?=[A-Za-z_-]{0,60}[0-9])",
}
"""What the words in braces mean in `tokens.txt`."""


@cache
def prefix_rules() -> tuple[MaskRule, ...]:
    """The rules of `tokens.txt`, one for each prefix."""
    rules: list[MaskRule] = []
    for line in read_data("tokens.txt"):
        kind, prefixes, body = (part.strip() for part in line.split(" | "))
        for word, meaning in CLASSES.items():
            body = body.replace(word, meaning)
        if body.endswith("$"):
            body = f"{body[:-1]}(?![0-9A-Za-z])"
        rules += [
            MaskRule(kind, (prefix,), _prefixed(prefix, body))
            for prefix in prefixes.split()
        ]
    return tuple(rules)


def _prefixed(prefix: str, body: str) -> str:
    literal = re.escape(prefix)
    pattern = literal
    # `re` searches fast for a pattern that begins with a literal, so the look-behinds
    # stand after it. What precedes may be the end of an escape: `\n`, `%3D`.
    if prefix[0].isalnum():
        pattern += (
            rf"(?:(?<![0-9A-Za-z]{literal})|(?<=\\[nrt]{literal})"
            rf"|(?<=%[0-9A-F][0-9A-F]{literal}))"
        )
    if prefix.endswith(("/", "=")):
        pattern = f"(?P<keep>{pattern})"
    return pattern + body


# --- tokens that are known by what stands around them

CONTEXT_RULES: tuple[MaskRule, ...] = (
    MaskRule(
        "aws-secret",
        ("ecret", "ECRET"),
        r"(?P<keep>[sS](?:ecret|ECRET)_?(?:[aA]ccess|ACCESS)_?(?:[kK]ey|KEY)['\"]?\s{0,4}[:=]>?\s{0,4}['\"]?)"
        r"[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])",
    ),
    MaskRule(
        "jwt",
        ("eyJ",),
        r"eyJ(?<![\w-]eyJ)[\w-]{10,}+\.eyJ[\w-]{10,}+\.[\w-]{10,}+",
    ),
    *(
        MaskRule(
            "authorization",
            (literal,),
            rf"(?P<keep>{literal}(?<={scheme})\s{{1,3}})(?=[A-Za-z._~+/-]{{0,60}}[0-9])[\w.~+/-]{{20,}}+={{0,2}}",
        )
        for literal, scheme in (
            ("earer", "[bB]earer"),
            ("BEARER", "BEARER"),
            ("asic", "[bB]asic"),
        )
    ),
    MaskRule(
        "authorization",
        ("uthorization",),
        r"(?P<keep>uthorization['\"]?[:=]\s{0,3}['\"]?(?:[tT]oken|[kK]ey|[bB]ot)\s{1,3})"
        r"(?=[A-Za-z._~+/-]{0,60}[0-9])[\w.~+/-]{20,}+={0,2}",
    ),
    MaskRule(
        "url-password",
        ("://",),
        r"(?P<keep>://[^\s/:@'\"<>]{0,128}:)(?![$%{<*]|\[masked:)[^\s/@'\"<>]{1,256}(?=@)",
    ),
    MaskRule(
        "telegram-token", (":AA",), r"(?P<keep>:)(?<=[0-9]{8}:)AA[\w-]{33}(?![\w-])"
    ),
    MaskRule(
        "azure-secret",
        ("Q~",),
        r"(?P<keep>Q~)(?<=[\w~.]{3}[0-9]Q~)[\w~.-]{31,34}(?![\w~.-])",
    ),
    MaskRule(
        "azure-signature", ("sig=",), r"(?P<keep>sig=)[A-Za-z0-9%+/]{40,90}(?:%3D|=)"
    ),
    MaskRule(
        "maxmind-key", ("_mmk",), r"[A-Za-z0-9]{6}_[A-Za-z0-9]{29}_mmk(?![A-Za-z0-9])"
    ),
)


# --- tokens that are known by what they are assigned to

_ASSIGNMENT = re.compile(
    r"[:=][=>]?[ \t]{0,3}['\"]?(?P<value>(?:[0-9]{5,16}:)?[\w+/.~%-]{15,200}+"
    r"(?:={1,2}(?=['\"]?(?:[\s,;)}\]]|\Z)))?)(?![\w=(\[{<$])",
    re.ASCII,
)
_NAME = r"(?P<name>[A-Za-z][\w.-]{2,60}+)['\"\]]{0,2}[ \t]{0,3}"
_ASSIGNED_NAMES = (
    re.compile(_NAME + r"\Z", re.ASCII),
    re.compile(_NAME + r":[ \t]?\w{1,20}[ \t]?\Z", re.ASCII),
)
"""A name right before the assignment; a name with its type."""
_NAME_LENGTH = 90
"""Characters before an assignment in which the name is looked for."""
_SECRET_WORD = re.compile(r"key|token|secret|passw|credential|auth|_pat\b|signature")
_SECRET_NAME = re.compile(
    r"secret|passw|passphrase|credential"
    r"|(?:api|access|auth|account|private|sign(?:ing)?|encrypt(?:ion)?|master|admin|service)_?key"
    r"|(?:api|access|auth|refresh|bearer|bot|session|private|personal|deploy|service)_?token"
)
_NO_SECRET_NAME = re.compile(
    r"public|hash|digest|fingerprint|checksum|sha\d|md5|_id\Z|path|file|url|uri|name|version|type"
)
_HEX = re.compile(r"[0-9a-f]{32,128}|[0-9A-F]{32,128}", re.ASCII)
_RANDOM = re.compile(r"[A-Za-z0-9+/_-]{20,128}={0,2}", re.ASCII)
_WORDS = re.compile(r"[a-z]{7}|(?i:example|change|dummy|xxxx|1234567|abcdef|0000)")


@cache
def assigned_tokens() -> tuple[tuple[str, str], ...]:
    """The issuers of `assigned_tokens.txt`, each with the pattern of its tokens."""
    rules = []
    for line in read_data("assigned_tokens.txt"):
        issuer, pattern = line.split(" | ")
        rules.append((issuer.strip(), pattern.strip()))
    return tuple(rules)


def _mask_assigned(text: str) -> tuple[str, int]:
    count = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal count
        before = text[max(0, match.start() - _NAME_LENGTH) : match.start()]
        value = match["value"].rstrip(".")
        kind = None
        for pattern in _ASSIGNED_NAMES:
            name = pattern.search(before)
            if name and kind is None:
                kind = _kind_of_assigned(name["name"], value)
        if kind is None:
            return match[0]
        count += 1
        start, end = match.start("value") - match.start(), len(value)
        return f"{match[0][:start]}[masked:{kind}]{match[0][start + end :]}"

    return _ASSIGNMENT.sub(replace, text), count


def _kind_of_assigned(name: str, value: str) -> str | None:
    """The kind of token that a value is by its name and its shape, or None."""
    lowered = name.lower().replace("-", "_").replace(".", "_")
    if not _SECRET_WORD.search(lowered):
        return None
    for issuer, pattern in assigned_tokens():
        has_shape = issuer in lowered and _compiled(pattern).fullmatch(value)
        if has_shape and any(character.isdigit() for character in value):
            return f"{issuer.replace('_', '-')}-token"
    if _SECRET_NAME.search(lowered) and not _NO_SECRET_NAME.search(lowered):
        return "secret" if _is_random(value) else None
    return None


def _is_random(value: str) -> bool:
    """Whether the value is none that a person would write or a program would be called."""
    if _WORDS.search(value):
        return False
    digits = sum(character.isdigit() for character in value)
    if _HEX.fullmatch(value):
        return 5 <= digits < len(value)
    upper = sum(character.isupper() for character in value)
    lower = sum(character.islower() for character in value)
    return min(digits, upper, lower) >= 3 and bool(_RANDOM.fullmatch(value))


# --- all of them


def mask(text: str) -> tuple[str, int]:
    """The text with every known token replaced, and the number of tokens."""
    total = 0
    # Most texts are words shorter than any token, and code repeats the longer ones. The
    # hundreds of prefixes are looked for in what is left.
    long_words = "\n".join({word for word in text.split() if len(word) >= MIN_TOKEN})
    for rule in prefix_rules():
        if rule.hints[0] in long_words:
            text, count = rule.mask(text)
            total += count
    for rule in CONTEXT_RULES:
        if rule.applies(text):
            text, count = rule.mask(text)
            total += count
    text, count = _mask_assigned(text)
    total += count
    if "PRIVATE KEY" in text:
        text, count = _mask_private_keys(text)
        total += count
    return text, total


def mask_bytes(data: bytes) -> tuple[bytes, int]:
    """`mask` for bytes in any encoding that is a superset of ASCII; all other bytes stay as they are."""
    text, count = mask(data.decode("latin-1"))
    return text.encode("latin-1"), count


# --- private keys

MASKED_KEY = "[masked:private-key]"

_EDGE = re.compile(
    r"-----(BEGIN|END) (?:[A-Z0-9]{1,12} ){0,4}PRIVATE KEY(?: BLOCK)?-----", re.ASCII
)
_INLINE = re.compile(r"(?:\\[nr]|['\"+,\s]){0,12}[A-Za-z0-9+/=]{32}", re.ASCII)
"""The beginning of a key that follows its BEGIN on the same line, its line ends written as `\\n`."""
_LEAD = r"(?P<lead>[ +-]?(?:\d{1,7}\t)?[ \t'\"#*/;,>|]{0,60})"
"""What may precede a line of a key: the sign of a diff, a line number, indentation, a quote or comment sign."""
_TAIL = r"(?P<tail>(?:\\[nr]|['\"+,;)\s]){0,8})"
_LONG_LINE = re.compile(_LEAD + r"[A-Za-z0-9+/]{40,200}={0,2}" + _TAIL, re.ASCII)
_SHORT_LINE = re.compile(
    _LEAD
    + r"(?:=[A-Za-z0-9+/]{4}|(?:[A-Za-z0-9+/]{4}){0,50}(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==))"
    + _TAIL,
    re.ASCII,
)
"""The last line of a key, or the checksum of a PGP key."""
_HEADER_LINE = re.compile(
    _LEAD + r"(?:(?:Proc-Type|DEK-Info|Version|Comment): [ -~]{0,100})?" + _TAIL,
    re.ASCII,
)


def _mask_private_keys(text: str) -> tuple[str, int]:
    """Mask the bodies of private keys, also where a hunk of a diff has only the beginning or the end of one."""
    lines = text.split("\n")
    total = 0
    for index, line in enumerate(lines):
        if "PRIVATE KEY" not in line:
            continue
        lines[index], count, edges = _mask_inline_keys(line)
        if "BEGIN" in edges:
            count += _mask_after(lines, index + 1)
        if "END" in edges:
            count += _mask_before(lines, index)
        total += count
    return "\n".join(lines), total


def _mask_inline_keys(line: str) -> tuple[str, int, set[str]]:
    """Mask the keys that stand on one line.

    Returns the line, the number of keys, and those of BEGIN and END whose key stands on
    other lines.
    """
    pieces: list[str] = []
    position = 0
    count = 0
    edges: set[str] = set()
    for edge in _EDGE.finditer(line):
        if edge.start() < position:
            continue
        pieces.append(line[position : edge.end()])
        position = edge.end()
        if edge[1] == "BEGIN" and _INLINE.match(line, position):
            end = line.find("-----END", position)
            position = len(line) if end < 0 else end
            pieces.append(MASKED_KEY)
            count += 1
        else:
            edges.add(edge[1])
    pieces.append(line[position:])
    if count:
        edges = set()
    return "".join(pieces), count, edges


def _mask_after(lines: list[str], start: int) -> bool:
    """Mask the key whose BEGIN precedes the line `start`; whether there was one."""
    while start < len(lines) and _HEADER_LINE.fullmatch(lines[start]):
        start += 1
    end = start
    while end < len(lines) and _LONG_LINE.fullmatch(lines[end]):
        end += 1
    if end > start and end < len(lines) and _SHORT_LINE.fullmatch(lines[end]):
        end += 1
    return _mask_lines(lines, start, end)


def _mask_before(lines: list[str], end: int) -> bool:
    """Mask the key whose END is the line `end`; whether there was one. It ends with at most two short lines."""
    start = end
    while start > max(0, end - 2) and _SHORT_LINE.fullmatch(lines[start - 1]):
        start -= 1
    first_short = start
    while start > 0 and _LONG_LINE.fullmatch(lines[start - 1]):
        start -= 1
    if start == first_short:
        return False
    return _mask_lines(lines, start, end)


def _mask_lines(lines: list[str], start: int, end: int) -> bool:
    for index in range(start, end):
        match = _LONG_LINE.fullmatch(lines[index]) or _SHORT_LINE.fullmatch(
            lines[index]
        )
        if match:
            lines[index] = f"{match['lead']}{MASKED_KEY}{match['tail']}"
        else:
            lines[index] = MASKED_KEY
    return end > start
