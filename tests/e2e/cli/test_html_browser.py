"""The HTML page in a real browser: it fits, its filters and keys work, and hostile text does nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.cli.formats.html import html
from codex_counsel.services.code_context import Snippet
from tests.e2e.browser import CHROMIUM, Browser
from tests.unit.test_formats import INCONCLUSIVE, PROVEN, REFUTED
from tests.unit.test_html import hostile_page, review

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")

HOSTILE = (
    "<img src=https://evil.example/a.png onerror=alert(1)><script>alert(2)</script>"
    "</script></style><style>body{background:url(https://evil.example/b)}</style>"
    "<iframe srcdoc='<script>alert(3)</script>'></iframe><svg onload=alert(4)>"
    "\"' onmouseover=alert(5) autofocus onfocus=alert(6) x='<!-- javascript:alert(7)"
)
VISIBLE = "[...document.querySelectorAll('article')].filter((item) => item.offsetHeight).map((item) => item.id)"
FRAME = "new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"
FOCUSED = "document.activeElement.id"
BELOW_BAR = (
    "document.activeElement.getBoundingClientRect().top"
    " - document.querySelector('.controls').getBoundingClientRect().bottom"
)
WIDTH = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
LONG = "a_very_long_name_without_any_blank_" * 12
FINDINGS: list[dict[str, Any]] = [
    {
        "id": None,
        "severity": "critical",
        "title": "First",
        "known": "new",
        "file": "a.py",
    },
    {
        "id": None,
        "severity": "high",
        "title": "Second",
        "known": "open",
        "file": f"{LONG}.py",
    },
    {
        "id": None,
        "severity": "high",
        "title": LONG,
        "known": "rejected",
        "file": "b.py",
        "reason": LONG,
        "risk": LONG,
    },
    {
        "id": "0123456789abcdef",
        "severity": "nit",
        "title": "Fourth",
        "known": "new",
        "file": "b.py",
    },
]

PROOFS: list[dict[str, Any]] = [PROVEN, REFUTED, INCONCLUSIVE, {}]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    profile = tmp_path_factory.mktemp("browser") / "profile"
    with Browser.started(profile) as browser:
        yield browser
    shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture
def page(tmp_path: Path, browser: Browser) -> Path:
    browser.resize(1400)
    browser.media()
    file = tmp_path / "page.html"
    code = Snippet(1, ("short", LONG, "x = 1", "\tlast"), "shown")
    snippets = dict.fromkeys(("#0", "#1", "#2", "0123456789abcdef"), code)
    file.write_text(html(review(*FINDINGS), snippets), encoding="utf-8")
    return file


@pytest.mark.parametrize("width", [400, 768, 1400])
@pytest.mark.parametrize("media", ["screen", "print"])
def test_the_page_is_never_wider_than_the_window(
    browser: Browser, page: Path, width: int, media: str
) -> None:
    browser.resize(width)
    browser.media(media)
    browser.open(page)
    assert browser.value(WIDTH) == 0
    code = "document.querySelector('pre').scrollWidth > document.querySelector('pre').clientWidth"
    assert browser.value(code) == (media == "screen")


def test_number_keys_hide_and_show_a_severity_and_the_address_keeps_it(
    browser: Browser, page: Path
) -> None:
    browser.open(page)
    browser.press("2")
    assert browser.value(VISIBLE) == ["f-1", "f-0123456789abcdef"]
    assert browser.value("location.hash") == "#severity=critical%2Cnit"
    assert (
        browser.value("document.querySelector('.shown').textContent") == "2 of 4 shown"
    )
    browser.open(page, "#severity=critical%2Cnit")
    assert browser.value(VISIBLE) == ["f-1", "f-0123456789abcdef"]
    browser.press("2")
    assert len(browser.value(VISIBLE)) == 4
    assert browser.value("location.hash") == ""


def test_filters_by_state_file_and_text_hold_together(
    browser: Browser, page: Path
) -> None:
    browser.open(page)
    browser.value("document.querySelector('[data-value=rejected]').click()")
    assert browser.value(VISIBLE) == ["f-1", "f-2", "f-0123456789abcdef"]
    browser.value(
        "(() => { const file = document.querySelector('select');"
        " file.value = [...file.options].find((item) => item.textContent === 'b.py').value;"
        " file.dispatchEvent(new Event('change')); })()"
    )
    assert browser.value(VISIBLE) == ["f-0123456789abcdef"]
    browser.press("0")
    browser.press("/")
    for key in "second":
        browser.press(key)
    assert browser.value(VISIBLE) == ["f-2"]
    assert browser.value("location.hash") == "#text=second"
    browser.press("Escape")
    browser.press("0")
    assert len(browser.value(VISIBLE)) == 4


def test_the_filter_by_proof_leaves_what_was_proven(
    browser: Browser, page: Path
) -> None:
    findings = [
        finding | proof for finding, proof in zip(FINDINGS, PROOFS, strict=True)
    ]
    page.write_text(html(review(*findings), {}), encoding="utf-8")
    browser.open(page)
    for status in ("refuted", "inconclusive", "untested"):
        browser.value(f"document.querySelector('[data-value={status}]').click()")
    assert browser.value(VISIBLE) == ["f-1"]
    assert browser.value("location.hash") == "#proof=proven"
    browser.open(page, "#proof=proven,refuted")
    assert browser.value(VISIBLE) == ["f-1", "f-2"]
    browser.press("0")
    assert len(browser.value(VISIBLE)) == 4


@pytest.mark.parametrize("width", [400, 1400])
def test_a_long_proof_is_never_wider_than_the_window(
    browser: Browser, page: Path, width: int
) -> None:
    proof = PROVEN["proof"] | dict.fromkeys(
        ("reason", "command", "patch", "output_tail"), LONG
    )
    page.write_text(html(review({"proof": proof}), {}), encoding="utf-8")
    browser.resize(width)
    browser.open(page)
    browser.value("document.querySelector('details').open = true")
    assert browser.value(WIDTH) == 0


def test_no_finding_that_passes_is_said(browser: Browser, page: Path) -> None:
    browser.open(page, "#text=nothing+has+this")
    assert browser.value(VISIBLE) == []
    assert browser.value("document.querySelector('.none').offsetHeight > 0") is True


def test_j_and_k_move_the_focus_over_what_is_shown(
    browser: Browser, page: Path
) -> None:
    browser.open(page)
    seen = []
    for key in "jjjkkkk":
        browser.press(key)
        seen.append(browser.value(FOCUSED))
    assert seen == ["f-1", "f-2", "f-3", "f-2", "f-1", "f-1", "f-1"]
    browser.press("2")
    browser.press("j")
    assert browser.value(FOCUSED) == "f-0123456789abcdef"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert browser.value(outline) == "solid"


def test_the_index_marks_the_finding_that_has_the_focus(
    browser: Browser, page: Path
) -> None:
    browser.open(page)
    marked = "[...document.querySelectorAll('.index [aria-current]')].map((link) => link.hash)"
    assert browser.value(marked) == []
    browser.press("j")
    browser.press("j")
    assert browser.value(marked) == ["#f-2"]


def test_what_is_gone_to_does_not_lie_below_the_bar(
    browser: Browser, page: Path
) -> None:
    browser.resize(1000, 700)
    browser.open(page)
    browser.press("j")
    browser.press("j")
    assert 0 <= browser.value(BELOW_BAR) <= 40


def test_a_question_mark_opens_the_list_of_keys_and_escape_closes_it(
    browser: Browser, page: Path
) -> None:
    browser.open(page)
    browser.press("?")
    assert browser.value("document.getElementById('keys').open") is True
    browser.press("j")
    assert browser.value(FOCUSED) != "f-1"
    browser.call(
        "Input.dispatchKeyEvent", type="keyDown", key="Escape", windowsVirtualKeyCode=27
    )
    assert browser.value("document.getElementById('keys').open") is False


def test_a_link_to_a_finding_shows_it_though_it_was_filtered_away(
    browser: Browser, page: Path
) -> None:
    browser.open(page, "#severity=critical")
    assert browser.value(VISIBLE) == ["f-1"]
    browser.value("location.hash = '#f-0123456789abcdef'")
    browser.value(FRAME)
    assert browser.value(FOCUSED) == "f-0123456789abcdef"
    assert len(browser.value(VISIBLE)) == 4


def test_without_scripts_everything_is_there_and_no_filter(
    browser: Browser, page: Path
) -> None:
    browser.open(page, "#severity=critical", scripts=False)
    assert len(browser.value(VISIBLE)) == 4
    assert browser.value("document.querySelector('.controls').offsetHeight") == 0


def test_paper_has_every_finding_and_no_controls_and_is_light(
    browser: Browser, page: Path
) -> None:
    browser.media("print", scheme="dark")
    browser.open(page, "#severity=critical")
    assert len(browser.value(VISIBLE)) == 4
    assert browser.value("document.querySelector('.controls').offsetHeight") == 0
    colour = "getComputedStyle(document.querySelector('article')).backgroundColor"
    assert browser.value(colour) == "rgb(255, 255, 255)"
    browser.media("screen", scheme="dark")
    assert browser.value(colour) != "rgb(255, 255, 255)"


@pytest.mark.parametrize(
    "fragment", ["", "#text=<img+src=x+onerror=alert(1)>&file=<b>&severity=x"]
)
def test_hostile_text_runs_nothing_and_loads_nothing(
    browser: Browser, tmp_path: Path, fragment: str
) -> None:
    file = tmp_path / "page.html"
    file.write_text(hostile_page(HOSTILE), encoding="utf-8")
    browser.resize(400)
    browser.media()
    browser.open(file, fragment)
    for key in "j1/":
        browser.press(key)
    assert (
        browser.value(
            "document.querySelectorAll('img, iframe, svg, link, object').length"
        )
        == 0
    )
    assert browser.value("document.querySelectorAll('script, style').length") == 2
    assert browser.value(WIDTH) == 0
    assert (browser.dialogs, browser.value("seen")) == ([], [])
    assert [url.partition("#")[0] for url in browser.requests] == [file.as_uri()]


def test_the_policy_stops_what_would_get_through_all_the_same(
    browser: Browser, page: Path
) -> None:
    text = page.read_text("utf-8").replace("First", HOSTILE)
    page.write_text(text, encoding="utf-8")
    browser.open(page)
    assert browser.dialogs == []
    assert {"script-src-elem", "img-src"} <= set(browser.value("seen"))
    assert [url for url in browser.requests if url.startswith("https:")] == []


def test_a_thousand_findings_open_at_once(browser: Browser, tmp_path: Path) -> None:
    findings = [{"id": f"{number:016x}"} for number in range(1000)]
    code = Snippet(1, ("    value = compute(first, second)",) * 14, "shown")
    snippets = {str(finding["id"]): code for finding in findings}
    file = tmp_path / "page.html"
    file.write_text(html(review(*findings), snippets), encoding="utf-8")
    browser.open(file)
    browser.press("j")
    assert browser.value(FOCUSED) == "f-0000000000000000"
    assert len(browser.value(VISIBLE)) == 1000
    browser.value("location.hash = 'f-00000000000003e0'")
    browser.value(FRAME)
    browser.value(FRAME)
    assert browser.value(FOCUSED) == "f-00000000000003e0"
    assert 0 <= browser.value(BELOW_BAR) <= 40
