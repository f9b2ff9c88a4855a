"""Which pull request a number or an address names, and that nobody can name one of a repository that is no remote."""

from __future__ import annotations

from typing import Any

import pytest

from codex_counsel.errors import Code, CounselError
from codex_counsel.git import remotes
from codex_counsel.git.repo import Repo
from codex_counsel.hub.reference import PullRequest, of_argument
from tests.conftest import World
from tests.repositories import Repository

SECRET = "s3cr3t-pass"


def repository(world: World, *urls: str) -> Repository:
    """A repository with remotes: `origin`, and then `remote1` and so on."""
    repository = world.repository.begin()
    for number, url in enumerate(urls):
        name = f"remote{number}" if number else "origin"
        repository.git("config", "--add", f"remote.{name}.url", url)
    return repository


def named(world: World, text: str, *urls: str) -> PullRequest:
    return of_argument(text, repository(world, *urls).repo())


def refused(world: World, text: str, *urls: str) -> CounselError:
    with pytest.raises(CounselError) as caught:
        named(world, text, *urls)
    assert caught.value.code == Code.INVALID_ARGUMENTS
    return caught.value


@pytest.mark.parametrize(
    ("url", "hub", "host", "project"),
    [
        ("https://github.com/o/r.git", "github", "github.com", "o/r"),
        ("https://github.com/o/r", "github", "github.com", "o/r"),
        (f"https://me:{SECRET}@github.com/o/r/", "github", "github.com", "o/r"),
        ("git@github.com:o/r.git", "github", "github.com", "o/r"),
        ("ssh://git@ssh.github.com:443/o/r.git", "github", "github.com", "o/r"),
        ("https://gitlab.example.org/g/s/r.git", "gitlab", "gitlab.example.org", "g/s/r"),
        ("ssh://git@gitlab.com:2222/g/r.git", "gitlab", "gitlab.com", "g/r"),
        ("https://[::1]:8443/o/r.git", "github", "[::1]:8443", "o/r"),
        ("git://git.example.org/o/r.git", "github", "git.example.org", "o/r"),
        ("http://git.example.org:80/o/r", "github", "git.example.org", "o/r"),
        ("file:///srv/o/r.git", "github", "", "srv/o/r"),
        ("/srv/o/r.git", "github", "", "srv/o/r"),
        ("../hubs/r.git", "github", "", None),
    ],
)  # fmt: skip
def test_a_number_is_one_of_the_remotes_project(
    world: World, url: str, hub: str, host: str, project: str | None
) -> None:
    pull = named(world, "7", url)
    assert (pull.hub, pull.host, pull.number) == (hub, host, 7)
    if project is None:
        project = str(world.base / "hubs/r").strip("/")
    assert pull.project == project
    assert SECRET not in repr(pull)
    assert SECRET not in pull.title
    is_known = host in ("github.com", "gitlab.com", "gitlab.example.org")
    assert pull.certain == is_known


@pytest.mark.parametrize(("text", "hub"), [("#7", "github"), ("!7", "gitlab")])
def test_a_number_may_have_the_mark_of_its_hub(
    world: World, text: str, hub: str
) -> None:
    assert named(world, text, "https://git.example.org/o/r").hub == hub


@pytest.mark.parametrize(
    ("text", "remote", "head_ref"),
    [
        ("https://github.com/o/r/pull/7", "git@github.com:o/r.git", "refs/pull/7/head"),
        ("https://github.com/O/R/pull/7/files?w=1#x", "https://github.com/o/r", "refs/pull/7/head"),
        (
            "https://code.example.org:8443/g/s/r/-/merge_requests/7/diffs",
            "ssh://git@code.example.org:22/g/s/r.git",
            "refs/merge-requests/7/head",
        ),
        ("https://code.example.org:8443/o/r/pull/7", "https://code.example.org:8443/o/r.git", "refs/pull/7/head"),
    ],
)  # fmt: skip
def test_an_address_names_hub_and_number(
    world: World, text: str, remote: str, head_ref: str
) -> None:
    pull = named(world, text, "https://github.com/somebody/else", remote)
    assert pull.head_ref == head_ref
    assert pull.remote == remote
    assert pull.certain


@pytest.mark.parametrize(
    "text",
    [
        "https://evil.example.org/o/r/pull/7",
        "https://github.com/o/other/pull/7",
        "https://github.com.evil.org/o/r/pull/7",
        "https://github.com@evil.org/o/r/pull/7",
        "https://github.com:8443/o/r/pull/7",
        "https://github.com/o/r/../other/pull/7",
        "http://169.254.169.254/o/r/pull/7",
    ],
)
def test_an_address_of_no_remote_is_refused_with_the_names_of_the_remotes(
    world: World, text: str
) -> None:
    error = refused(world, text, f"https://me:{SECRET}@github.com/o/r.git")
    assert SECRET not in str(error)
    assert (
        "https://github.com/o/r.git" in error.message
        or "is not the address" in error.message
    )


@pytest.mark.parametrize(
    "text",
    ["", "0", "-7", "7.5", "seven", "12345678901", "refs/pull/7/head", "file:///o/r/pull/7", "https://github.com/o/r",
     "https://github.com/o/r/pull/0", "https://[::1/o/r/pull/7", "7\n8", "--upload-pack=x"],
)  # fmt: skip
def test_what_is_neither_number_nor_address_is_refused(world: World, text: str) -> None:
    refused(world, text, "https://github.com/o/r")


@pytest.mark.parametrize(
    "url",
    ["ext::sh -c touch% x", "--upload-pack=touch x", "-oProxyCommand=x:o/r", "ftp://example.org/o/r", "fd::3",
     "ssh://-oProxyCommand=x/o/r", "https:///o/r", "https://example.org:port/o/r"],
)  # fmt: skip
def test_nothing_is_fetched_from_an_address_that_names_a_program(
    world: World, url: str
) -> None:
    error = refused(world, "7", url)
    assert "nothing is fetched from" in error.message


def test_a_repository_in_the_project_itself_is_no_hub(world: World) -> None:
    Repository(world.workspace / "evil.git", world.repository.env).init("--bare")
    error = refused(world, "7", "evil.git")
    assert "in the project itself" in error.message


def test_no_spelling_hides_a_repository_in_the_project(world: World) -> None:
    evil = str(world.workspace / "evil.git").replace("evil", "e%76il")
    error = refused(world, "7", f"file://{evil}")
    assert "in the project itself" in error.message


def test_a_hub_beside_the_project_is_one(world: World) -> None:
    """`git clone name.git` makes the directory `name` beside it."""
    beside = f"{world.workspace}.git"
    assert named(world, "7", beside).remote == beside


def test_many_remotes_take_no_processes_of_their_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a repository with thousands of them does not keep its user waiting."""
    settings = '[url "https://github.com/"]\n\tinsteadOf = gh:\n\tinsteadOf = hub:\n'
    (world.home / ".gitconfig").write_text(settings, "utf-8")
    repository = world.repository.begin()
    sections = []
    for number in range(5000):
        sections.append(f'[remote "r{number}"]\n\turl = hub:o/r{number}\n')
    with (repository.root / ".git/config").open("a", encoding="utf-8") as config:
        config.write("".join(sections))
    repo = repository.repo()
    started = []
    run = Repo.git

    def counted(self: Repo, *args: Any, **options: Any) -> bytes:
        started.append(args)
        return run(self, *args, **options)

    monkeypatch.setattr(Repo, "git", counted)
    pull = of_argument("https://github.com/o/r4999/pull/7", repo)
    assert pull.remote == "hub:o/r4999"
    assert len(started) == 2


def test_the_longest_of_the_users_short_forms_counts_as_for_git(world: World) -> None:
    settings = (
        '[url "https://one.example.org/"]\n\tinsteadOf = gh:\n'
        '[url "https://two.example.org/"]\n\tinsteadOf = gh:o/\n\tinsteadOf = x:\n'
        '[url "https://three.example.org/"]\n\tinsteadOf = gh:o/\n'
    )
    (world.home / ".gitconfig").write_text(settings, "utf-8")
    repo = world.repository.begin().repo()
    for url in ("gh:o/p/r", "gh:p/r", "x:p/r", "https://github.com/o/r"):
        used = repo.git("ls-remote", "--get-url", "--", url).decode().strip()
        assert remotes.Rewriting.of(repo)(url) == used


def test_one_of_several_remotes_must_be_said(world: World) -> None:
    repository = world.repository.begin()
    for name in ("one", "two"):
        repository.git("remote", "add", name, f"https://github.com/{name}/r")
    with pytest.raises(CounselError) as caught:
        of_argument("7", repository.repo())
    assert "one, two" in caught.value.message
    pull = of_argument("https://github.com/two/r/pull/7", repository.repo())
    assert pull.project == "two/r"


def test_the_remote_of_the_branch_comes_first(world: World) -> None:
    repository = world.repository.begin()
    repository.git("remote", "add", "origin", "https://github.com/me/r")
    repository.git("remote", "add", "upstream", "https://github.com/team/r")
    repository.git("config", "branch.main.remote", "upstream")
    assert of_argument("7", repository.repo()).project == "team/r"


def test_the_first_of_several_addresses_counts_as_for_git(world: World) -> None:
    repository = world.repository.begin()
    for project in ("first", "second"):
        repository.git(
            "config", "--add", "remote.origin.url", f"https://github.com/o/{project}"
        )
    assert of_argument("7", repository.repo()).project == "o/first"


def test_what_the_user_writes_short_is_known_by_its_whole_address(world: World) -> None:
    settings = '[url "https://github.com/"]\n\tinsteadOf = gh:\n'
    (world.home / ".gitconfig").write_text(settings, "utf-8")
    pull = named(world, "https://github.com/o/r/pull/7", "gh:o/r")
    assert (pull.host, pull.project, pull.remote) == ("github.com", "o/r", "gh:o/r")


def test_a_repository_cannot_pass_for_another_one(world: World) -> None:
    repository = world.repository.begin()
    repository.git("remote", "add", "origin", "https://evil.example.org/o/r")
    repository.git(
        "config", "url.https://github.com/.insteadOf", "https://evil.example.org/"
    )
    pull = of_argument("7", repository.repo())
    assert pull.host == "evil.example.org"


@pytest.mark.parametrize(
    ("name", "value", "hub"),
    [
        ("CI_SERVER_HOST", "git.example.org", "gitlab"),
        ("GITHUB_SERVER_URL", "https://git.example.org", "github"),
    ],
)
def test_a_ci_service_says_which_hub_it_belongs_to(
    world: World, name: str, value: str, hub: str
) -> None:
    repository = world.repository.begin()
    repository.git("remote", "add", "origin", "https://git.example.org/o/r")
    repo = Repository(repository.root, {**(repository.env or {}), name: value}).repo()
    pull = of_argument("7", repo)
    assert (pull.hub, pull.certain) == (hub, True)


def test_addresses_have_parts() -> None:
    address = remotes.parse("ssh://git@git.example.org:2222/o/r.git/")
    assert address == remotes.Address("ssh", "git.example.org", "o/r")
    assert remotes.parse("") is None
