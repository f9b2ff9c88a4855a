"""The page of a comparison in a real browser: it fits, its filters and keys work, and hostile text does nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from codex_counsel.cli.formats.compare_html import compare_html
from tests.comparisons import FILE, VERSION, comparison, filled
from tests.e2e.browser import CHROMIUM, Browser
from tests.e2e.cli.test_html_browser import FOCUSED, HOSTILE, VISIBLE, WIDTH

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")

LONG = "a_very_long_name_without_any_blank_" * 12
TOPS = "[...document.querySelectorAll('article:last-of-type .version')].map((item) => item.getBoundingClientRect().top)"
PATCHES = "[...document.querySelectorAll('pre.patch')].map((item) => item.clientWidth)"


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
    versions = []
    for label in ("1", "2", "4", "5", "6"):
        diff = f"@@ -1 +1 @@\n-{LONG}\n+{label}\n"
        versions.append(VERSION | {"labels": [label], "diff": diff})
    wide = FILE | {"path": f"{LONG}/{LONG}.py", "versions": versions}
    data = comparison().data
    text = compare_html(comparison(files=[*data["files"], wide]))
    file.write_text(text, encoding="utf-8")
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
    assert min(browser.value(PATCHES)) > 250


def test_versions_stand_beside_each_other_and_on_a_telephone_below_each_other(
    browser: Browser, page: Path
) -> None:
    browser.open(page)
    assert len(set(browser.value(TOPS))) == 1
    browser.resize(400)
    browser.open(page)
    assert len(set(browser.value(TOPS))) == 5


def test_keys_show_only_the_files_that_differ_and_the_address_keeps_it(
    browser: Browser, page: Path
) -> None:
    browser.open(page)
    assert browser.value(VISIBLE) == ["f-1", "f-2", "f-3", "f-4"]
    browser.press("2")
    assert browser.value(VISIBLE) == ["f-1", "f-3", "f-4"]
    assert browser.value("location.hash") == "#same=different"
    browser.open(page, "#same=different")
    assert browser.value(VISIBLE) == ["f-1", "f-3", "f-4"]
    browser.press("1")
    assert browser.value(VISIBLE) == []
    browser.press("0")
    assert len(browser.value(VISIBLE)) == 4


def test_one_file_can_be_chosen_and_text_searched(browser: Browser, page: Path) -> None:
    browser.open(page, "#file=src%2Fapp.py")
    assert browser.value(VISIBLE) == ["f-3"]
    browser.open(page, "#text=seven+%3D+77")
    assert browser.value(VISIBLE) == ["f-3"]


def test_j_and_k_move_over_the_files(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.press("2")
    seen = []
    for key in "jjkk":
        browser.press(key)
        seen.append(browser.value(FOCUSED))
    assert seen == ["f-1", "f-3", "f-1", "f-1"]


def test_paper_has_every_file_and_is_light(browser: Browser, page: Path) -> None:
    browser.media("print", scheme="dark")
    browser.open(page, "#same=different")
    assert len(browser.value(VISIBLE)) == 4
    assert browser.value("document.querySelector('.controls').offsetHeight") == 0
    colour = "getComputedStyle(document.querySelector('article')).backgroundColor"
    assert browser.value(colour) == "rgb(255, 255, 255)"


def test_without_scripts_everything_is_there(browser: Browser, page: Path) -> None:
    browser.open(page, "#same=different", scripts=False)
    assert len(browser.value(VISIBLE)) == 4


def test_hostile_text_runs_nothing_and_loads_nothing(
    browser: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "page.html"
    data = filled(comparison().data, HOSTILE)
    file.write_text(compare_html(comparison(**data)), encoding="utf-8")
    browser.resize(400)
    browser.media()
    browser.open(file, "#text=<img+src=x+onerror=alert(1)>")
    active = "document.querySelectorAll('img, iframe, svg, link, object').length"
    assert browser.value(active) == 0
    assert browser.value("document.querySelectorAll('script, style').length") == 2
    assert browser.value(WIDTH) == 0
    assert (browser.dialogs, browser.value("seen")) == ([], [])
    assert [url.partition("#")[0] for url in browser.requests] == [file.as_uri()]


def test_as_many_files_as_a_page_has_room_for_open_and_can_be_filtered(
    browser: Browser, tmp_path: Path
) -> None:
    body = "".join(f"+line_{number} = {number}\n-old\n" for number in range(20))
    diff = f"@@ -1 +1 @@\n{body}"
    versions = [VERSION | {"labels": [label], "diff": diff} for label in "12345"]
    files = [FILE | {"path": f"f{n}.py", "versions": versions} for n in range(2000)]
    file = tmp_path / "page.html"
    file.write_text(compare_html(comparison(files=files)), encoding="utf-8")
    browser.resize(1400)
    browser.media()
    browser.open(file, "#file=f7.py")
    assert browser.value(VISIBLE) == ["f-8"]
