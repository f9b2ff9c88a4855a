"""What must not leave the machine: tokens and private keys, known by their shapes.

A token is replaced by `[masked:<kind>]`. The number of lines stays, and so does what
precedes a token on its line, so a masked diff is still a diff. Every pattern begins
with a literal and then matches or fails within a bounded distance: the time is linear
in the length of the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class MaskRule:
    """One shape of tokens. Without one of the literals `hints` the pattern cannot match; its group `keep` stays."""

    kind: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]

    def applies(self, text: str) -> bool:
        """A fast test that spares most texts the search by pattern."""
        return any(hint in text for hint in self.hints)

    def mask(self, text: str) -> tuple[str, int]:
        """The text with the tokens replaced, and their number."""
        keep = ""
        if "keep" in self.pattern.groupindex:
            keep = r"\g<keep>"
        return self.pattern.subn(f"{keep}[masked:{self.kind}]", text)


def _rule(kind: str, hints: str, pattern: str) -> MaskRule:
    return MaskRule(kind, tuple(hints.split()), re.compile(pattern, re.ASCII))


# A look-behind stands after the literal that it guards: `re` searches fast for a
# pattern that begins with a literal.
RULES: tuple[MaskRule, ...] = (
    _rule("anthropic-key", "sk-ant-", r"sk-ant-[\w-]{20,}+"),
    _rule(
        "openai-key",
        "sk-",
        r"sk-(?<![\w-]sk-)(?:(?:proj|svcacct|admin|None)-[\w-]{20,}+|or-v1-[0-9a-f]{32,}+|[A-Za-z0-9]{32,}+)",
    ),
    _rule("github-token", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_[A-Za-z0-9]{36,}+"),
    _rule("github-token", "github_pat_", r"github_pat_\w{22,}+"),
    _rule(
        "gitlab-token",
        "glpat- glptt- gldt- glrt- glcbt- glsoat-",
        r"gl(?:pat|ptt|dt|rt|cbt|soat)-[\w.-]{20,}+",
    ),
    _rule(
        "aws-key",
        "AKIA ASIA",
        r"A(?:KIA|SIA)(?<![A-Za-z0-9]A...)[A-Z0-9]{16}(?![A-Za-z0-9])",
    ),
    _rule(
        "aws-secret",
        "ecret ECRET",
        r"(?P<keep>[sS](?:ecret|ECRET)_?(?:[aA]ccess|ACCESS)_?(?:[kK]ey|KEY)['\"]?\s{0,4}[:=]>?\s{0,4}['\"]?)"
        r"[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])",
    ),
    _rule("google-key", "AIza", r"AIza[\w-]{35}(?![\w-])"),
    _rule("google-token", "GOCSPX- ya29.", r"(?:GOCSPX-|ya29\.)[\w-]{20,}+"),
    _rule("slack-token", "xox xapp-", r"x(?:ox[abeoprs]|app)-[A-Za-z0-9-]{10,}+"),
    _rule(
        "slack-webhook",
        "hooks.slack.com",
        r"(?P<keep>hooks\.slack\.com/services/)[A-Za-z0-9/]{20,}+",
    ),
    _rule(
        "stripe-key",
        "sk_live_ sk_test_ rk_live_ rk_test_",
        r"[sr]k_(?<![A-Za-z0-9].k_)(?:live|test)_[A-Za-z0-9]{16,}+",
    ),
    _rule("stripe-key", "whsec_", r"whsec_[A-Za-z0-9+/=]{24,}+"),
    _rule(
        "npm-token", "npm_", r"npm_(?<![A-Za-z0-9]npm_)[A-Za-z0-9]{36}(?![A-Za-z0-9])"
    ),
    _rule("pypi-token", "pypi-AgE", r"pypi-AgE[\w-]{40,}+"),
    _rule(
        "huggingface-token",
        "hf_",
        r"hf_(?<![A-Za-z0-9]hf_)[A-Za-z0-9]{34}(?![A-Za-z0-9])",
    ),
    _rule("sendgrid-key", "SG.", r"SG\.[\w-]{22}\.[\w-]{43}"),
    _rule(
        "azure-key", "AccountKey=", r"(?P<keep>AccountKey=)[A-Za-z0-9+/]{80,}+={0,2}"
    ),
    _rule("age-key", "AGE-SECRET-KEY-1", r"AGE-SECRET-KEY-1[A-Z0-9]{50,}+"),
    _rule("jwt", "eyJ", r"eyJ(?<![\w-]eyJ)[\w-]{10,}+\.eyJ[\w-]{10,}+\.[\w-]{10,}+"),
    _rule(
        "authorization",
        "earer BEARER asic",
        r"(?P<keep>(?:[bB]earer|BEARER|[bB]asic)\s{1,3})(?=[A-Za-z._~+/-]{0,60}[0-9])[\w.~+/-]{20,}+={0,2}",
    ),
    _rule(
        "url-password",
        "://",
        r"(?P<keep>://[^\s/:@'\"<>]{0,128}:)(?![$%{<*]|\[masked:)[^\s/@'\"<>]{1,256}(?=@)",
    ),
)


def mask(text: str) -> tuple[str, int]:
    """The text with every known token replaced, and the number of tokens."""
    total = 0
    for rule in RULES:
        if rule.applies(text):
            text, count = rule.mask(text)
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
