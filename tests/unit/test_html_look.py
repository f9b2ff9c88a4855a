"""The colours of the HTML page can be read in both schemes, and on paper nothing is folded or dark."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

STYLE = (files("codex_counsel.cli.formats") / "report.css").read_text("utf-8")
GROUNDS = ("ground", "card", "sunken")
SEVERITIES = ("critical", "high", "medium", "low", "nit")
PAIRS = [
    *((text, ground) for text in ("text", "muted", "accent") for ground in GROUNDS),
    *(
        (text, ground)
        for text in (*SEVERITIES, "good")
        for ground in ("ground", "card")
    ),
    *((text, f"{text}-tint") for text in (*SEVERITIES, "good")),
    *((text, ground) for text in ("text", "muted") for ground in ("hit", "ins", "del")),
    ("good", "ins"),
    ("critical", "del"),
]
"""Text, and what it may stand on."""


def colours(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))


LIGHT, DARK = (
    colours(block) for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
)


def luminance(colour: str) -> float:
    """The relative luminance of WCAG 2, from 0 to 1."""
    parts = []
    for start in (1, 3, 5):
        value = int(colour[start : start + 2], 16) / 255
        linear = value / 12.92
        if value > 0.04045:
            linear = ((value + 0.055) / 1.055) ** 2.4
        parts.append(linear)
    red, green, blue = parts
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: str, second: str) -> float:
    darker, lighter = sorted((luminance(first), luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_text_can_be_read_on_its_ground(
    scheme: dict[str, str], text: str, ground: str
) -> None:
    assert contrast(scheme[text], scheme[ground]) >= 4.5


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("ground", GROUNDS)
def test_frames_of_controls_and_the_focus_can_be_seen(
    scheme: dict[str, str], ground: str
) -> None:
    assert contrast(scheme["strong"], scheme[ground]) >= 3
    assert contrast(scheme["focus"], scheme[ground]) >= 3


def test_the_comparison_has_no_colours_of_its_own() -> None:
    style = (files("codex_counsel.cli.formats") / "compare.css").read_text("utf-8")
    assert re.findall(r"#[0-9a-f]{3,8}\b|rgb|hsl", style) == []
    used = set(re.findall(r"var\(--([\w-]+)\)", style))
    assert used <= LIGHT.keys()


def test_both_schemes_have_the_same_colours_and_use_no_others() -> None:
    assert LIGHT.keys() == DARK.keys()
    rules = re.sub(r":root \{.*?\}", "", STYLE, flags=re.DOTALL)
    assert re.findall(r"#[0-9a-f]{3,8}\b", rules) == []
    # Paper is never dark.
    assert "@media screen and (prefers-color-scheme: dark)" in STYLE
    assert STYLE.count("prefers-color-scheme") == 1
