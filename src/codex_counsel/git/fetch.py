"""Objects of other repositories, fetched into bare repositories of ours. The user's own repository is only read.

One bare repository stands for each repository of the user. It borrows the objects of
the user's, by git's alternates, where these are complete; those of a shallow or partial
clone it does not borrow, and fetches as much history as is needed. Of the user's
repository no configuration, hook or ref has a part in it.

Invariants: only the holder of `lock` writes; refs are `refs/codex-counsel/...`; what a
killed fetch left is removed before the next one. Jobs that need objects later have refs of
their own, `refs/codex-counsel/jobs/ID/...`, until their records are gone.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.git import limits, refs
from codex_counsel.git.hardening import fetch_environment
from codex_counsel.git.names import escaped
from codex_counsel.git.process import GitProcess, GitTimeout, find_git
from codex_counsel.git.remotes import shown
from codex_counsel.git.repo import CUT_OFF
from codex_counsel.system.files import (
    UnsafeDirectoryError,
    lock_file,
    make_private,
    remove_tree,
    write_atomically,
)

if TYPE_CHECKING:
    from codex_counsel.git.repo import Repo

REPOSITORY = "objects.git"
NAMESPACE = "refs/codex-counsel"
MAX_LISTING = 4_000_000
"""Bytes of the refs that are listed: some end like those that were asked for."""
DEPTHS = (50, 1000, 0)
"""Commits of history that are fetched where the user's clone has none to lend, until a merge base is among them.

The last one stands for all of them.
"""
MAX_PACKS = 40
"""Packs, above which they are put together and what no job needs is dropped."""
GRACE = "1.day.ago"
"""What is younger is not dropped: a job may be about to refer to it."""
UNUSED_SECONDS = 90 * 86_400
"""Age at which a repository of ours goes in which nothing was fetched any more."""
YOUNG_SECONDS = 3600
"""Time within which a job may still be about to start."""
_MISSING_REF = re.compile(r"couldn't find remote ref (\S+)")
_BROKEN = re.compile(
    r"bad object|missing|unresolved delta|did not send all|unable to read|corrupt|a valid object"
    r"|ould not read [0-9a-f]{40}"
)
"""What git says of objects that are gone, such as borrowed ones that the user's clone has dropped."""
_QUOTED = re.compile(r"'[^']*'")
"""An address, as git has it in its messages."""


class BrokenObjectsError(CounselError):
    """Objects are missing or damaged where git needs them."""


@dataclass(frozen=True)
class RemoteRefs:
    """Of the refs that were asked for, those that the remote has, by full name; and the one that its HEAD names."""

    shas: Mapping[str, str]
    default: str | None


@dataclass(frozen=True)
class ObjectStore:
    """The bare repository `directory/objects.git` that stands for the user's `repo`. `env` is the caller's."""

    directory: Path
    repo: Repo
    env: Mapping[str, str]

    @property
    def path(self) -> Path:
        """The bare repository; it need not exist."""
        return self.directory / REPOSITORY

    @property
    def bare(self) -> Repo:
        """The bare repository, for reading."""
        return self.repo.bare(self.path)

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock, with the bare repository made and without what a killed fetch left.

        Raises `storage_failed`.
        """
        patience = 3 * self.repo.timeout
        try:
            make_private(self.directory.parent)
            make_private(self.directory)
            lock = lock_file(self.directory / "lock", patience=patience)
        except (OSError, UnsafeDirectoryError) as error:
            raise _not_stored(error) from None
        if lock is None:
            raise CounselError(
                Code.STORAGE_FAILED,
                f"Another process has been fetching into {self.directory} for more than {patience:g} seconds",
            )
        try:
            # By this its age is known.
            os.utime(self.directory / "lock")
            self._prepare()
            try:
                yield
            except BaseException:
                # A pack that was received in part can have gigabytes.
                self._remove_leftovers()
                raise
        except OSError as error:
            raise _not_stored(error) from None
        finally:
            os.close(lock)

    def remote_refs(self, url: str, names: Sequence[str]) -> RemoteRefs:
        """Ask a remote for these refs, by full names, and for its HEAD. Raises `hub_failed` or `storage_failed`."""
        # Outside a repository git 2.46.0 crashes, and others take every hash for SHA-1.
        if not self._is_made():
            with self.changing():
                pass
        arguments = ("--symref", "--", url, "HEAD", *names)
        output = self._run("ls-remote", *arguments)
        shas: dict[str, str] = {}
        default = None
        for line in output.decode("utf-8", "surrogateescape").splitlines():
            value, _, name = line.partition("\t")
            if name == "HEAD" and value.startswith("ref: refs/heads/"):
                default = value.removeprefix("ref: ")
            elif name in names and refs.SHA.fullmatch(value):
                shas[name] = value
        return RemoteRefs(shas, default)

    def fetch(self, url: str, base: str, head: str, into: str) -> tuple[str, str, str]:
        """Fetch two refs of a remote with enough history: their commits, and the merge base, (base, head, merge base).

        They are kept as `NAMESPACE/into/base` and `.../head` until the next fetch. Call it
        while `changing`. Raises `hub_failed`, `storage_failed`, or `unknown_ref`, with the
        ref in the details where the remote has none of that name.
        """
        specs = {
            f"{NAMESPACE}/{into}/base": base,
            f"{NAMESPACE}/{into}/head": head,
        }
        try:
            if self._is_complete():
                return self._fetch_borrowing(url, specs)
            return self._fetch_own(url, specs)
        except BrokenObjectsError:
            # The user's clone has dropped what we borrowed, or lends nothing any more.
            remove_tree(self.path)
            self._prepare()
            return self._fetch_own(url, specs)

    def _fetch_borrowing(
        self, url: str, specs: Mapping[str, str]
    ) -> tuple[str, str, str]:
        """With the objects of the user's clone, which has all history. Raises BrokenObjectsError too."""
        folder = escaped(bytes(self.repo.common_dir / "objects"))
        write_atomically(self._alternates, b'"' + folder + b'"\n')
        self._fetch(url, specs)
        base, head = self._tips(specs)
        merge_base = self._merge_base(base, head)
        self._note_cut_off()
        return _checked(base, head, merge_base)

    def _fetch_own(self, url: str, specs: Mapping[str, str]) -> tuple[str, str, str]:
        """Without the user's objects: as much history as is needed."""
        self._alternates.unlink(missing_ok=True)
        for depth in DEPTHS:
            self._fetch(url, specs, depth)
            base, head = self._tips(specs)
            merge_base = self._merge_base(base, head)
            if merge_base:
                break
        self._note_cut_off()
        return _checked(base, head, merge_base)

    def _tips(self, specs: Mapping[str, str]) -> list[str]:
        """Raises `unknown_ref` for a ref that names something else than a commit."""
        tips = []
        for name, source in specs.items():
            code, output, _ = self.bare.try_git(
                "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"
            )
            if code:
                raise CounselError(
                    Code.UNKNOWN_REF, f"The ref {shown(source)} names no commit"
                )
            tips.append(output.decode("ascii").strip())
        return tips

    def _merge_base(self, base: str, head: str) -> str | None:
        """None where the two have none in the history that is here."""
        code, output, stderr = self.bare.try_git("merge-base", base, head)
        if code == 0:
            return output.decode("ascii").split()[0]
        if code == 1:
            return None
        raise BrokenObjectsError(Code.HUB_FAILED, _sentence(stderr))

    def pin(self, job_id: str, commits: Iterable[str]) -> None:
        """Keep these commits for as long as the record of the job exists. Call it while `changing`."""
        lines = []
        for number, commit in enumerate(commits):
            name = f"{NAMESPACE}/jobs/{job_id}/{int(time.time())}/{number}"
            lines.append(f"update {name} {commit}\n")
        self.bare.git("update-ref", "--stdin", stdin="".join(lines).encode("ascii"))

    def tidy(self, is_kept: Callable[[str], bool]) -> None:
        """Drop the refs of jobs whose records are gone, and now and then the objects that nobody needs.

        Call it while `changing`, before a new job has its refs.
        """
        listing = self.bare.git(
            "for-each-ref", "--format=%(refname)", f"{NAMESPACE}/jobs"
        )
        lines = []
        for name in listing.decode("utf-8", "surrogateescape").splitlines():
            job_id, noted, _ = name.removeprefix(f"{NAMESPACE}/jobs/").split("/")
            is_young = time.time() - int(noted) < YOUNG_SECONDS
            if not is_young and not is_kept(job_id):
                lines.append(f"delete {name}\n")
        if lines:
            stdin = "".join(lines).encode("utf-8", "surrogateescape")
            self.bare.git("update-ref", "--stdin", stdin=stdin)
        packs = list((self.path / "objects/pack").glob("*.pack"))
        if len(packs) > MAX_PACKS:
            # What is not dropped now is dropped another time.
            with contextlib.suppress(CounselError):
                self.bare.git("gc", "--quiet", f"--prune={GRACE}")

    def remove_unused(self) -> None:
        """Remove the repositories of ours for those of the user in which nothing was fetched for a long time."""
        oldest = time.time() - UNUSED_SECONDS
        for lock in self.directory.parent.glob("*/lock"):
            if lock.parent == self.directory or lock.stat().st_mtime > oldest:
                continue
            descriptor = lock_file(lock, create=False)
            if descriptor is None:
                continue
            remove_tree(lock.parent)
            os.close(descriptor)

    def _prepare(self) -> None:
        """Make the bare repository where there is none. Raises OSError and GitError."""
        if not (self.path / "HEAD").is_file():
            remove_tree(self.path)
            draft = self.directory / "draft.git"
            remove_tree(draft)
            length = len(self.repo.empty_tree)
            object_format = "sha256" if length == 64 else "sha1"
            self.repo.bare(self.directory).git(
                "init",
                "--quiet",
                "--bare",
                "--template=",
                "--shared=0600",
                f"--object-format={object_format}",
                str(draft),
                env={"GIT_DIR": str(draft)},
            )
            draft.rename(self.path)
            self.path.chmod(0o700)
            return
        self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        """Remove drafts and locks of a git that was ended. Raises OSError."""
        for folder in (self.path / "objects/pack", self.path / "objects"):
            for path in folder.glob("tmp_*"):
                remove_tree(path)
        locks = [*self.path.glob("*.lock"), *(self.path / "refs").rglob("*.lock")]
        for path in locks:
            path.unlink(missing_ok=True)

    def _is_made(self) -> bool:
        """Raises `storage_failed`."""
        try:
            return (self.path / "HEAD").is_file()
        except OSError as error:
            raise _not_stored(error) from None

    @property
    def _alternates(self) -> Path:
        """The file in which git finds whose objects are borrowed."""
        return self.path / "objects/info/alternates"

    def _is_complete(self) -> bool:
        """Whether the user's clone has all history of what it has."""
        is_shallow = bool(_commits_in(self.repo.common_dir / "shallow"))
        return not is_shallow and not _is_partial(self.repo)

    def _fetch(self, url: str, specs: Mapping[str, str], depth: int = 0) -> None:
        """`depth` counts commits; 0 stands for all."""
        options = [
            "--quiet",
            "--no-tags",
            "--no-auto-maintenance",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
        ]
        is_cut_off = (self.path / "shallow").is_file()
        if depth:
            options.append(f"--depth={depth}")
        elif is_cut_off:
            options.append("--unshallow")
        refspecs = [f"+{source}:{target}" for target, source in specs.items()]
        self._run("fetch", *options, "--", url, *refspecs)

    def _note_cut_off(self) -> None:
        """Write the commits at which history ends for whoever sees both repositories.

        A commit of ours has its parents here unless `shallow` has it. Only for others does
        that of the user's clone count.
        """
        cut_off = self.path / CUT_OFF
        own = _commits_in(self.path / "shallow")
        users = _commits_in(self.repo.common_dir / "shallow")
        if not (own or users):
            cut_off.unlink(missing_ok=True)
            return
        asked = "".join(f"{sha}\n" for sha in sorted(users))
        listing = self.bare.git("cat-file", "--batch-check", stdin=asked.encode())
        missing = set()
        for line in listing.decode().splitlines():
            if line.endswith(" missing"):
                missing.add(line.split()[0])
        lines = "".join(f"{sha}\n" for sha in sorted(own | missing))
        write_atomically(cut_off, lines)

    def _run(self, command: str, *args: str) -> bytes:
        """Run git with the network. Raises `hub_failed`, `storage_failed`, `unknown_ref` or BrokenObjectsError."""
        env = fetch_environment(
            self.env,
            self.repo.config.users,
            login_headers(self.env),
            self.repo.workspace,
        )
        git = find_git(env)
        env["GIT_DIR"] = str(self.path)
        argv = limits.limited(git, "--no-pager", command, *args)
        try:
            # In no directory of the user's: a program that his settings name by a
            # relative path is not looked for in the project.
            with GitProcess(
                argv, env, Path("/"), self.repo.timeout, lifeline=True
            ) as process:
                output = _bounded(process.chunks())
        except GitTimeout:
            raise CounselError(
                Code.HUB_FAILED,
                f"The remote did not answer `git {command}` within {self.repo.timeout:g} seconds",
                repair="Call again; for a large repository raise CODEX_COUNSEL_GIT_TIMEOUT_SECONDS.",
            ) from None
        if process.code and self._has_full_pack():
            raise CounselError(
                Code.HUB_FAILED,
                f"The remote sends more than {limits.MAX_BYTES:,} bytes",
                repair="Fetch the base branch by hand (`git fetch`), so that only what is new is sent.",
            )
        if process.code:
            raise failure_of(command, bytes(process.stderr).decode(errors="replace"))
        return output

    def _has_full_pack(self) -> bool:
        """Whether git was ended because a pack reached the limit: it dies without a word."""
        drafts = (self.path / "objects/pack").glob("tmp_pack_*")
        limit = limits.MAX_BYTES // limits.BLOCK * limits.BLOCK
        return any(draft.stat().st_size >= limit for draft in drafts)


def _bounded(chunks: Iterable[bytes]) -> bytes:
    """What git prints. Raises `hub_failed` where a hub makes it too much."""
    output = bytearray()
    for chunk in chunks:
        output += chunk
        if len(output) > MAX_LISTING:
            raise CounselError(
                Code.HUB_FAILED,
                f"The remote lists more than {MAX_LISTING:,} bytes of refs with these names",
            )
    return bytes(output)


def _checked(base: str, head: str, merge_base: str | None) -> tuple[str, str, str]:
    """The three commits. Raises `unknown_ref` where there is no merge base."""
    if merge_base is None:
        raise CounselError(
            Code.UNKNOWN_REF,
            f"The pull request ({head[:12]}) and its base ({base[:12]}) have no common ancestor.",
            repair="Name with base the branch that it was made from.",
        )
    return base, head, merge_base


def failure_of(command: str, stderr: str) -> CounselError:
    """What git's complaint means."""
    sentence = _sentence(stderr)
    if "No space left on device" in stderr:
        return CounselError(
            Code.STORAGE_FAILED, "The disk is full: nothing could be fetched"
        )
    missing = _MISSING_REF.search(stderr)
    if missing:
        return CounselError(
            Code.UNKNOWN_REF, sentence, details={"ref": shown(missing[1])}
        )
    message = f"`git {command}` failed: {sentence}"
    if _is_broken(stderr):
        return BrokenObjectsError(Code.HUB_FAILED, message)
    return CounselError(Code.HUB_FAILED, message)


def _is_broken(stderr: str) -> bool:
    """Whether it is of objects here that git complains: not of what it was sent, nor in words of the remote."""
    own_lines = []
    for line in stderr.splitlines():
        if not line.startswith(("remote:", "fatal: remote error:")):
            own_lines.append(_QUOTED.sub("", line))
    text = "\n".join(own_lines)
    return bool(_BROKEN.search(text)) and "fsck" not in text


def _sentence(stderr: str) -> str:
    """Git's own first sentence, or that of ssh, without passwords."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    sentence = "no message"
    for line in lines:
        if line.startswith(("fatal: ", "error: ")):
            sentence = line.partition(": ")[2]
            break
    if sentence.startswith("Could not read from remote") or sentence == "no message":
        sentence = lines[0] if lines else sentence
    return shown(sentence.removeprefix("remote: "), 300)


def login_headers(env: Mapping[str, str]) -> list[tuple[str, str]]:
    """The tokens that a CI service has put into the environment, for its own address and no other."""
    headers = []
    server = env.get("GITHUB_SERVER_URL", "")
    token = env.get("GH_TOKEN") or env.get("GITHUB_TOKEN")
    if server and token:
        headers += _header(server, "x-access-token", token)
    host = env.get("CI_SERVER_HOST")
    server = env.get("CI_SERVER_URL") or f"https://{host}"
    if host and env.get("GITLAB_TOKEN"):
        headers += _header(server, "oauth2", env["GITLAB_TOKEN"])
    elif host and env.get("CI_JOB_TOKEN"):
        headers += _header(server, "gitlab-ci-token", env["CI_JOB_TOKEN"])
    return headers


def _header(server: str, user: str, token: str) -> list[tuple[str, str]]:
    if not server.startswith("https://"):
        return []
    login = base64.b64encode(f"{user}:{token}".encode()).decode("ascii")
    return [(server.rstrip("/") + "/", f"Authorization: Basic {login}")]


def _is_partial(repo: Repo) -> bool:
    values = repo.config.values
    is_promised = any(
        key.startswith("remote.") and key.endswith((".promisor", ".partialclonefilter"))
        for key in values
    )
    return is_promised or "extensions.partialclone" in values


def _commits_in(file: Path) -> set[str]:
    """The commits that a file of git's lists; none where there is no file. Raises OSError."""
    try:
        text = file.read_text("ascii", "replace")
    except FileNotFoundError:
        return set()
    return {line for line in text.splitlines() if refs.SHA.fullmatch(line)}


def _not_stored(error: OSError | UnsafeDirectoryError) -> CounselError:
    if isinstance(error, UnsafeDirectoryError):
        return CounselError(Code.STORAGE_FAILED, str(error))
    return error_of(
        Code.STORAGE_FAILED, "Objects of a pull request cannot be stored", error
    )
