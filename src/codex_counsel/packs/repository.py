"""A private repository for each foundation that was received: `<cache>/codex-counsel/packs/<digest>/`.

    lock              held while it is made or removed; shared while a run is started
    adding.lock       held while commits are added
    used              its time is that of the last start of a run
    repository/       the working tree with its `.git`, as the sender had them
    findings.jsonl    the findings that came with it
    more/             for each bundle of further commits that was taken in, an empty file

Invariants: `repository/` is made in `draft/` and renamed into place, so it is whole where it
exists. Afterwards only commits are added to it: runs read it meanwhile, and write nothing.
All bytes come from elsewhere: git takes them with limits to its files, memory and time, with
no configuration of a user, and refuses damaged objects and names that lead out of the tree.
A patch never touches a file: it changes an index, of which the empty tree is then filled.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.delegate.shadow import git_environment
from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.findings.entry import Entry
from codex_counsel.findings.ledger import MAX_LEDGER, Ledger
from codex_counsel.git.hardening import HARMLESS_FAULTS, GitEnvironment, extended
from codex_counsel.git.limits import limited
from codex_counsel.git.process import GitProcess, GitTimeout, find_git
from codex_counsel.git.repo import EMPTY_TREES
from codex_counsel.jobs.store import Store
from codex_counsel.packs import archive, manifest
from codex_counsel.packs.bundle import Bundle
from codex_counsel.packs.manifest import Foundation
from codex_counsel.system.files import (
    UnsafeDirectoryError,
    lock_file,
    make_private,
    read_regular,
    remove_tree,
    write_atomically,
)
from codex_counsel.system.text import one_line, visible

if TYPE_CHECKING:
    from codex_counsel.prepare.context import Context

UNUSED_SECONDS = 86_400
"""Age at which a repository goes that no run uses."""
YOUNG_SECONDS = 60
"""Age below which the maker of a directory may not have its lock yet."""
LOCK_PATIENCE = 300.0
"""Seconds that a call waits while another one makes the same repository."""
MAX_TREE = 8_000_000_000
"""Bytes of all files of the working tree."""
MAX_ENTRIES = 1_000_000
"""Files of the working tree."""
MAX_SHALLOW = 1_000_000
"""Commits without parents that a pack may list."""
MAX_COMMIT = 10_000_000
"""Bytes of one of those commits, whose parents are looked at."""
MAX_OUTPUT = 100_000_000
"""Bytes that one command of git may print into memory."""
MAX_RECORD = 1_000_000
"""Bytes of a line about a file of the working tree."""
MAX_LOOSE_PACKS = 40
"""Packs of git beside those of its common index, above which that index is written again."""
ATTRIBUTES = "* -text -eol -ident -filter -working-tree-encoding\n"
"""Every file has the bytes of its object: what the sender's git converted, it has converted already."""
EXCLUDES = "!*\n"
"""The sender's untracked files are no files that the receiver's own patterns ignore."""
CONFIG = """\
[core]
\tautocrlf = false
\tfilemode = true
\tsymlinks = true
[gc]
\tauto = 0
[maintenance]
\tauto = false
"""
PROTECTION = ("core.protectHFS", "core.protectNTFS")
"""Some file systems take more names for `.git` than that, and any system can have one of them mounted."""
NOT_WRITTEN = ("No space left", "quota exceeded", "unable to write", "Read-only file")
"""What git says where it cannot write. Of a file of the working tree it does not say why."""
STORAGE_REPAIR = (
    "Free disk space, or set XDG_CACHE_HOME to a directory that can be written."
)
SCRATCH = "scratch-"
REMOVED = "removed-"
READ_FROM_FILE = 'input=$1; shift; exec "$@" <"$input"'
"""Runs a program with a file as its standard input, which `limited` needs for itself."""
_DIGEST = archive.SHA256
_SHA = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")


def repository_of(context: Context, digest: str) -> Path:
    """Where the private repository of a foundation is, or would be; without links."""
    return _folder(context) / digest / "repository"


def has_foundation(context: Context, digest: str) -> bool:
    """Whether the private repository of this foundation is here."""
    return bool(_DIGEST.fullmatch(digest)) and os.path.isdir(  # noqa: PTH112  # it may not be readable
        repository_of(context, digest) / ".git"
    )


def keep_foundation(context: Context, file: Path) -> str:
    """Make the private repository of a foundation, where it is not here yet. Returns its digest.

    Raises `pack_invalid` for a file that is damaged or from which no repository can be
    made, `timeout`, and `storage_failed`.
    """
    try:
        digest = archive.digest_of(file)
        if _is_kept(context, digest):
            return digest
        with _changing(context, digest) as directory:
            # Another call may have made it meanwhile.
            if not has_foundation(context, digest):
                _make(context, file, directory)
    except OSError as error:
        raise _not_stored(error) from None
    return digest


def _is_kept(context: Context, digest: str) -> bool:
    """Whether the repository is here; then nobody removes it for a day. Raises `storage_failed`."""
    try:
        with using(context, digest):
            return True
    except CounselError as error:
        if error.code != Code.PACK_INVALID:
            raise
        return False


def add_commits(
    context: Context, digest: str, bundle: Path, shallow: Iterable[str]
) -> None:
    """Bring the commits of a bundle into a private repository, in which runs may read meanwhile.

    `shallow` are those whose parents are not there. Raises as `keep_foundation`.
    """
    with using(context, digest) as repository:
        try:
            name = archive.digest_of(bundle)
            with _locked(repository.with_name("adding.lock")):
                mark = repository.with_name("more") / name
                if mark.exists():
                    return
                git = _Git.of(context, repository)
                draft = repository.with_name("draft.pack")
                _take_in(git, bundle, _checked_commits(shallow), draft)
                mark.parent.mkdir(mode=0o700, exist_ok=True)
                mark.touch(mode=0o600)
        except OSError as error:
            raise _not_stored(error) from None


@contextlib.contextmanager
def using(context: Context, digest: str) -> Iterator[Path]:
    """The private repository, which nobody removes while the block lasts, nor for a day after it.

    Raises `pack_invalid` where it is not here, and `storage_failed`.
    """
    directory = _folder(context) / digest
    try:
        lock = lock_file(directory / "lock", shared=True, patience=LOCK_PATIENCE)
    except FileNotFoundError:
        raise missing(digest) from None
    except OSError as error:
        raise _not_stored(error) from None
    if lock is None:
        raise _busy(directory / "lock")
    try:
        if not has_foundation(context, digest):
            raise missing(digest)
        try:
            (directory / "used").touch(mode=0o600)
            _seed_ledger(context, directory)
        except OSError as error:
            raise _not_stored(error) from None
        yield directory / "repository"
    finally:
        os.close(lock)


def missing(digest: str) -> CounselError:
    """That the foundation of a pack is not here."""
    return CounselError(
        Code.PACK_INVALID,
        f"The foundation {digest[:12]} of this pack is not on this machine",
        repair="Run the whole file that `codex-counsel pack` wrote, which has its foundation.",
        details={"foundation": digest},
    )


@contextlib.contextmanager
def scratch(context: Context) -> Iterator[Path]:
    """A private directory beside the repositories, removed at the end. Raises `storage_failed`."""
    folder = _folder(context)
    try:
        make_private(folder)
        directory = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=folder))
        lock = lock_file(directory / "lock")
    except (OSError, UnsafeDirectoryError) as error:
        raise _not_stored(error) from None
    try:
        content = directory / "content"
        content.mkdir(mode=0o700)
        yield content
    finally:
        remove_tree(directory)
        if lock is not None:
            os.close(lock)


# --- removal


def remove_unused(context: Context, now: float | None = None) -> None:
    """Remove repositories that no run uses, with their findings, and what killed processes left. Never raises.

    `now` is in epoch seconds.
    """
    now = now or time.time()
    directories: list[Path] = []
    with contextlib.suppress(OSError):
        directories = list(_folder(context).iterdir())
    unused = []
    for directory in directories:
        # One that cannot be removed must not keep the others.
        with contextlib.suppress(OSError):
            if directory.name.startswith(REMOVED):
                remove_tree(directory)
            elif directory.name.startswith(SCRATCH):
                _remove_abandoned(directory, now)
            elif _is_unused(directory, now):
                unused.append(directory)
    if not unused:
        return
    # Reading all jobs takes long, and few calls find such a repository.
    with contextlib.suppress(OSError, CounselError):
        living = _workspaces_of_living_jobs(context)
        for directory in unused:
            if any(path.is_relative_to(directory) for path in living):
                continue
            with contextlib.suppress(OSError):
                _remove(context, directory, now)


def _is_unused(directory: Path, now: float) -> bool:
    """Whether it has no repository, or one that was not used for long."""
    if not _DIGEST.fullmatch(directory.name):
        return False
    if not (directory / "repository").is_dir():
        return True
    return now - _last_used(directory) > UNUSED_SECONDS


def _last_used(directory: Path) -> float:
    """Epoch seconds."""
    for name in ("used", "repository"):
        with contextlib.suppress(OSError):
            return (directory / name).stat().st_mtime
    return 0.0


def _workspaces_of_living_jobs(context: Context) -> set[Path]:
    found = set()
    for job in Store(context.settings.state).jobs():
        if job.is_running():
            with contextlib.suppress(CounselError):
                found.add(Path(job.spec().workspace))
    return found


def _remove(context: Context, directory: Path, now: float) -> None:
    """Remove a directory that nobody has locked. Raises OSError."""
    try:
        lock = lock_file(directory / "lock", create=False)
    except FileNotFoundError:
        if now - directory.stat().st_mtime > YOUNG_SECONDS:
            remove_tree(directory)
        return
    if lock is None:
        return
    try:
        # Somebody may have used it since, or made the repository.
        if not _is_unused(directory, now):
            return
        removed = directory.with_name(f"{REMOVED}{directory.name}-{os.getpid()}")
        directory.rename(removed)
        remove_tree(_ledger_of(context, directory).directory)
        remove_tree(removed)
    finally:
        os.close(lock)


def _remove_abandoned(directory: Path, now: float) -> None:
    """Remove a scratch directory whose maker is gone. Raises OSError."""
    if now - directory.stat().st_mtime < YOUNG_SECONDS:
        return
    with contextlib.ExitStack() as stack:
        if (directory / "lock").exists():
            lock = lock_file(directory / "lock", create=False)
            if lock is None:
                return
            stack.callback(os.close, lock)
        remove_tree(directory)


# --- the directory and its lock


def _folder(context: Context) -> Path:
    # A run is given no path that leads through a link.
    return context.directories.packs.resolve()


@contextlib.contextmanager
def _changing(context: Context, digest: str) -> Iterator[Path]:
    """Hold the lock of a foundation; its directory is made. Raises OSError and `storage_failed`."""
    folder = _folder(context)
    directory = folder / digest
    lock = None
    deadline = time.monotonic() + LOCK_PATIENCE
    while lock is None:
        try:
            make_private(folder)
            make_private(directory)
            lock = lock_file(directory / "lock", patience=LOCK_PATIENCE)
        except UnsafeDirectoryError as error:
            raise _not_stored(error) from None
        except FileNotFoundError:
            # An unused one was removed just now.
            if time.monotonic() > deadline:
                raise
            continue
        if lock is None:
            raise _busy(directory / "lock")
    try:
        yield directory
    finally:
        os.close(lock)


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold a lock alone. Raises OSError and `storage_failed`."""
    lock = lock_file(file, patience=LOCK_PATIENCE)
    if lock is None:
        raise _busy(file)
    try:
        yield
    finally:
        os.close(lock)


def _busy(file: Path) -> CounselError:
    return CounselError(
        Code.STORAGE_FAILED,
        f"Another process holds {file} for more than {LOCK_PATIENCE:g} seconds",
    )


def _not_stored(error: OSError | UnsafeDirectoryError) -> CounselError:
    if isinstance(error, UnsafeDirectoryError):
        return CounselError(Code.STORAGE_FAILED, str(error))
    problem = error_of(
        Code.STORAGE_FAILED,
        "The repository of a pack cannot be stored in the cache directory",
        error,
    )
    if problem.code == Code.STORAGE_FAILED:
        problem.repair = STORAGE_REPAIR
    return problem


# --- the repository


def _make(context: Context, file: Path, directory: Path) -> None:
    """Make `repository/` in a directory whose lock is held. Raises OSError, and as `keep_foundation`."""
    draft = directory / "draft"
    remove_tree(draft)
    try:
        members = draft / "members"
        members.mkdir(mode=0o700, parents=True)
        name = "the foundation"
        with file.open("rb") as source:
            about = manifest.parse(
                Foundation,
                archive.unpack(source, name, "foundation", members),
                name,
            )
        repository = _filled(context, about, members, draft)
        findings = members / manifest.FINDINGS
        if findings.exists():
            findings.rename(directory / manifest.FINDINGS)
        (directory / "used").touch(mode=0o600)
        repository.rename(directory / "repository")
    finally:
        remove_tree(draft)


def _filled(context: Context, about: Foundation, members: Path, draft: Path) -> Path:
    """The repository of a foundation, made in `draft`."""
    if about.object_format not in EMPTY_TREES:
        raise _invalid("has objects of a format that git does not know")
    git = _Git.of(context, draft / "repository")
    git.tree.mkdir(mode=0o700)
    git.init(about.object_format)
    bundle = members / manifest.HEAD_BUNDLE
    _checked_commits([about.head])
    _take_in(git, bundle, _checked_commits(about.shallow), draft / "draft.pack")
    if Bundle.read(bundle).tips != {"refs/heads/head": about.head}:
        raise _invalid("has another commit than it names")
    _check_out_branch(git, about)

    index = git.directory / "index"
    git.run("read-tree", about.head)
    _apply(git, members / manifest.STAGED_PATCH)
    # The working tree as an index: nothing of a patch is ever written through a link.
    work = git.with_index(draft / "index")
    work.index.write_bytes(index.read_bytes())
    _apply(work, members / manifest.WORK_PATCH)
    _check_size(work)
    work.run("checkout-index", "--all")
    # What git finds unchanged now, it need not read again for every command of every run.
    git.run("update-index", "-q", "--refresh", ok=(0, 1))
    return git.tree


def _check_out_branch(git: _Git, about: Foundation) -> None:
    """Point HEAD to the commit, by its branch where there was one."""
    if about.branch is None:
        (git.directory / "HEAD").write_text(f"{about.head}\n", "ascii")
        return
    ref = f"refs/heads/{about.branch}"
    # A lone surrogate or a NUL byte can be no argument.
    is_printable = about.branch.isprintable() and not about.branch.startswith("-")
    if not is_printable or len(about.branch) > 250:
        raise _invalid("names a branch that git does not accept")
    git.run("check-ref-format", ref)
    git.run("symbolic-ref", "HEAD", ref)
    git.run("update-ref", ref, about.head)


def _apply(git: _Git, patch: Path) -> None:
    """Apply a patch to the index."""
    if patch.exists() and patch.stat().st_size:
        git.run("apply", "--cached", "--binary", "--whitespace=nowarn", str(patch))


def _check_size(git: _Git) -> None:
    """Raise unless the files of the index have a size that is to be expected: few bytes of objects can make many."""
    tree = git.run("write-tree").decode().strip()
    total = count = 0
    # Git ends with the block, whatever it still has to say.
    with contextlib.closing(git.stream("ls-tree", "-r", "-l", "-z", tree)) as listing:
        for record in _records(listing):
            size = record.partition(b"\t")[0].split()[3]
            count += 1
            if size != b"-":
                total += int(size)
            if total > MAX_TREE or count > MAX_ENTRIES:
                raise _invalid(
                    f"has more than {MAX_ENTRIES:,} files or {MAX_TREE:,} bytes"
                )


def _records(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Output that a NUL byte ends each record of, one by one."""
    rest = b""
    for chunk in chunks:
        *records, rest = (rest + chunk).split(b"\0")
        if max(map(len, (*records, rest))) > MAX_RECORD:
            raise _invalid("has a file with a name that no file system takes")
        yield from records


# --- commits


def _take_in(git: _Git, file: Path, shallow: set[str], draft: Path) -> None:
    """Add the objects of a bundle to the repository. `draft` is the path of a file that it may write meanwhile.

    What a commit or tree refers to must be there, but the parents of a commit of `shallow`.
    """
    cut_off = git.directory / "shallow"
    earlier = _commits_in(cut_off)
    trial = git.directory / "shallow-of-a-pack"
    draft.unlink(missing_ok=True)
    try:
        write_atomically(trial, _as_lines(earlier | shallow))
        Bundle.read(file).write_pack(draft)
        faults = ",".join(f"{fault}=warn" for fault in HARMLESS_FAULTS)
        git.run(
            "index-pack",
            "--stdin",
            "--fix-thin",
            f"--strict={faults}",
            stdin=draft,
            variables={"GIT_SHALLOW_FILE": str(trial)},
        )
    finally:
        draft.unlink(missing_ok=True)
        trial.unlink(missing_ok=True)
        _remove_drafts_of_packs(git)
    remaining = _without_parents(git, earlier | shallow)
    if remaining:
        write_atomically(cut_off, _as_lines(remaining))
    else:
        cut_off.unlink(missing_ok=True)
    _index_packs(git)


def _remove_drafts_of_packs(git: _Git) -> None:
    """What a git leaves that reached its limit, or was killed."""
    for folder in (git.directory / "objects/pack", git.directory / "objects"):
        for path in folder.glob("tmp_*"):
            path.unlink(missing_ok=True)


def _without_parents(git: _Git, commits: set[str]) -> set[str]:
    """Those of which not all parents are in the repository. A commit that is not there itself is left out."""
    here = _present(git, commits)
    if not here:
        return set()
    whole = git.directory / "not-shallow"
    try:
        whole.write_bytes(b"")
        listing = git.run(
            "rev-list",
            "--no-walk=unsorted",
            "--parents",
            "--stdin",
            stdin=_as_lines(here),
            variables={"GIT_SHALLOW_FILE": str(whole)},
        )
    finally:
        whole.unlink(missing_ok=True)
    parents: dict[str, list[str]] = {}
    for line in listing.decode("ascii").splitlines():
        commit, *parents[commit] = line.split()
    present = _present(git, {name for names in parents.values() for name in names})
    return {
        commit for commit, names in parents.items() if not present.issuperset(names)
    }


def _present(git: _Git, names: set[str]) -> set[str]:
    """Those that are commits of the repository. Raises `pack_invalid` for one of a size that none has."""
    if not names:
        return set()
    listing = git.run("cat-file", "--batch-check", stdin=_as_lines(names))
    found = set()
    for line in listing.decode().splitlines():
        name, _, about = line.partition(" ")
        kind, _, size = about.partition(" ")
        if kind != "commit":
            continue
        if int(size) > MAX_COMMIT:
            raise _invalid(f"has a commit of more than {MAX_COMMIT:,} bytes")
        found.add(name)
    return found


def _index_packs(git: _Git) -> None:
    """Now and then write a common index of all packs: a process of git opens each of them otherwise."""
    folder = git.directory / "objects/pack"
    common = folder / "multi-pack-index"
    written = common.stat().st_mtime if common.exists() else 0.0
    newer = [pack for pack in folder.glob("*.pack") if pack.stat().st_mtime >= written]
    if len(newer) > MAX_LOOSE_PACKS:
        git.run("multi-pack-index", "write")


def _commits_in(file: Path) -> set[str]:
    if not file.exists():
        return set()
    return set(file.read_text("ascii").split())


def _checked_commits(names: Iterable[str]) -> set[str]:
    """Raises `pack_invalid` for what is no id of a commit."""
    commits = set(names)
    is_valid = all(_SHA.fullmatch(str(name)) for name in commits)
    if not is_valid or len(commits) > MAX_SHALLOW:
        raise _invalid("names commits by something else than their ids")
    return commits


def _as_lines(names: Iterable[str]) -> bytes:
    return "".join(f"{name}\n" for name in sorted(names)).encode("ascii")


# --- findings


def _ledger_of(context: Context, directory: Path) -> Ledger:
    return Ledger.of(context.settings.state, directory / "repository/.git")


def _seed_ledger(context: Context, directory: Path) -> None:
    """Put the sender's findings on record, where this state directory has no record of the repository yet."""
    ledger = _ledger_of(context, directory)
    if ledger.file.exists():
        return
    data = read_regular(directory / manifest.FINDINGS, MAX_LEDGER)
    if data is None:
        return
    with ledger.changing() as changing:
        for line in data.splitlines():
            # A later release may have written it. It costs no other finding.
            with contextlib.suppress(ValueError, RecursionError):
                changing.put(Entry.from_json(json.loads(line)))


# --- git


def _invalid(problem: str) -> CounselError:
    return CounselError(Code.PACK_INVALID, f"The pack {problem}")


@dataclass(frozen=True)
class _Git:
    """Git in the repository whose working tree is `tree`, with limits. `timeout` is in seconds, for each command."""

    tree: Path
    index: Path
    timeout: float
    env: GitEnvironment = field(repr=False)

    @classmethod
    def of(cls, context: Context, tree: Path) -> _Git:
        env = git_environment(context.env, tree)
        count = int(env["GIT_CONFIG_COUNT"])
        protection = {"GIT_CONFIG_COUNT": str(count + len(PROTECTION))}
        for number, name in enumerate(PROTECTION, count):
            protection[f"GIT_CONFIG_KEY_{number}"] = name
            protection[f"GIT_CONFIG_VALUE_{number}"] = "true"
        env = extended(env, protection)
        return cls(tree, tree / ".git/index", context.settings.git_timeout_seconds, env)

    @property
    def directory(self) -> Path:
        """Its git directory."""
        return self.tree / ".git"

    def with_index(self, index: Path) -> _Git:
        """The same with another index."""
        return _Git(self.tree, index, self.timeout, self.env)

    def init(self, object_format: str) -> None:
        """Make the repository."""
        # Without GIT_DIR: with it, git would write the path of the draft into its configuration.
        options = ("-q", "--template=", f"--object-format={object_format}")
        self._checked(("init", *options, str(self.tree)), self.env, None, (0,))
        info = self.directory / "info"
        info.mkdir(exist_ok=True)
        (info / "attributes").write_text(ATTRIBUTES, "ascii")
        (info / "exclude").write_text(EXCLUDES, "ascii")
        with (self.directory / "config").open("a", encoding="ascii") as config:
            config.write(CONFIG)

    def run(
        self,
        *args: str,
        stdin: Path | bytes | None = None,
        variables: dict[str, str] | None = None,
        ok: tuple[int, ...] = (0,),
    ) -> bytes:
        """What git printed. Raises `pack_invalid` with git's own message, `timeout` and `storage_failed`."""
        return self._checked(args, self._environment(variables or {}), stdin, ok)

    def stream(self, *args: str) -> Generator[bytes]:
        """What git prints, as it comes. Raises as `run`."""
        process = self._process(args, self._environment({}), None)
        with self._in_time(args), process:
            yield from process.chunks()
        self._check(args, process, (0,))

    def _environment(self, variables: dict[str, str]) -> GitEnvironment:
        places = {
            "GIT_DIR": str(self.directory),
            "GIT_WORK_TREE": str(self.tree),
            "GIT_INDEX_FILE": str(self.index),
        }
        return extended(self.env, places | variables)

    def _checked(
        self,
        args: tuple[str, ...],
        env: GitEnvironment,
        stdin: Path | bytes | None,
        ok: tuple[int, ...],
    ) -> bytes:
        process = self._process(args, env, stdin)
        output = bytearray()
        with self._in_time(args), process:
            for chunk in process.chunks():
                output += chunk
                if len(output) > MAX_OUTPUT:
                    raise _invalid(f"makes `git {args[0]}` print too much")
        self._check(args, process, ok)
        return bytes(output)

    def _check(
        self, args: tuple[str, ...], process: GitProcess, ok: tuple[int, ...]
    ) -> None:
        """Raise unless git has ended with one of these codes."""
        if (process.code or 0) in ok:
            return
        stderr = bytes(process.stderr).decode(errors="replace")
        problem = f"`git {args[0]}` failed: {_sentence(stderr)}"
        if any(words in stderr for words in NOT_WRITTEN):
            raise CounselError(
                Code.STORAGE_FAILED,
                f"The repository of a pack cannot be stored: {problem}",
                repair=STORAGE_REPAIR,
            )
        raise _invalid(f"makes no repository: {problem}")

    def _process(
        self, args: tuple[str, ...], env: GitEnvironment, stdin: Path | bytes | None
    ) -> GitProcess:
        command = [find_git(env), "--no-pager", *args]
        if isinstance(stdin, bytes):
            return GitProcess(command, env, self.tree, self.timeout, stdin)
        if stdin:
            command = ["/bin/sh", "-c", READ_FROM_FILE, "sh", str(stdin), *command]
        return GitProcess(
            limited(*command), env, self.tree, self.timeout, lifeline=True
        )

    @contextlib.contextmanager
    def _in_time(self, args: tuple[str, ...]) -> Iterator[None]:
        """Say which command did not finish."""
        try:
            yield
        except GitTimeout:
            raise CounselError(
                Code.TIMEOUT,
                f"`git {args[0]}` did not finish within {self.timeout:g} seconds and was ended.",
                repair="Raise CODEX_COUNSEL_GIT_TIMEOUT_SECONDS and call again.",
            ) from None


def _sentence(stderr: str) -> str:
    """The first line with git's reason."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    for line in lines:
        if line.startswith(("fatal: ", "error: ")):
            return one_line(visible(line.partition(": ")[2]), 300)
    if lines:
        return one_line(visible(lines[0]), 300)
    return "it reached the limit of memory or of the size of a file"
