"""Kind 3, a delegated task, after the run: the tree is captured as a patch, removed, and the result put together.

In the job directory: `diff.patch` and `base.tar` (what Codex made of the baseline),
`work.json` (the same for people), and of a long diff `diff.txt` (the rest for people,
too). The tree goes once it is captured; one that cannot be
captured stays, and the result says where.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from codex_counsel.contract.envelope import (
    Check,
    CheckResult,
    DiffFile,
    Envelope,
    failure,
)
from codex_counsel.contract.vocabulary import CheckStatus
from codex_counsel.delegate.capture import (
    BOUNDS,
    Capture,
    CapturedFile,
    capture_tree,
)
from codex_counsel.delegate.record import (
    CHECK,
    READABLE_DIFF,
    WORK,
    DelegateResult,
    DelegateSpec,
)
from codex_counsel.delegate.sensitive import is_build_file
from codex_counsel.delegate.set_up import OWNER, SEED
from codex_counsel.delegate.shadow import Bounds, Shadow, git_environment
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.encoding import is_source
from codex_counsel.git.names import display_name
from codex_counsel.kind import (
    PROMPT_SECONDS,
    EndedRun,
    answer_in_prose,
    failed_run,
)
from codex_counsel.system.files import (
    read_json,
    read_json_or_none,
    remove_tree,
    write_atomically,
)
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.redact import mask
from codex_counsel.system.text import SPELLED_OUT, clean, cut, size, visible

MAX_LISTED = 500
"""Changed files that a result lists."""
CHECK_WORDS: dict[CheckStatus, str] = {
    "passed": "passed",
    "failed": "failed",
    "not_started": "could not start",
    "timed_out": "timed out",
    "not_run": "was not run",
}
BEFORE: dict[tuple[str, str], str] = {
    ("passed", "failed"): "it failed before the change",
    ("failed", "passed"): "it passed before the change",
    ("failed", "failed"): "it failed before the change too",
    ("timed_out", "passed"): "it passed before the change",
    ("timed_out", "timed_out"): "it did so before the change too",
}
"""What the statuses of the two runs say together; nothing where one of them says nothing."""
MAX_NAMED = 20
"""Files that a warning names."""
EXECUTABLE = "100755"
"""Git's mode of a file that can be executed."""
MAX_COMMAND = 2_000
"""Bytes of a command that a result shows."""
MAX_READABLE = 5_000_000
"""Bytes of a diff for reading that is masked and stored. Masking takes a third of a second for each million."""
UNCLAIMED_SECONDS = 3600
"""Age from which a scratch directory without an owner is taken for abandoned: set-up writes the owner first."""


def conclude(ended: EndedRun) -> Envelope:
    """The envelope of a delegated task, finished or not, with the diff of what was done."""
    spec = DelegateSpec.parse(ended.details["delegate"])
    too_much = ended.error is not None and ended.error.code == Code.QUOTA_EXCEEDED
    bounds = BOUNDS if too_much else None
    result = capture_once(spec, ended.scratch, ended.directory, bounds)
    if ended.error:
        envelope = failed_run(ended, ended.error)
    else:
        envelope = answer_in_prose(ended)
    add_result(envelope, result, ended.commands)
    if spec.check is not None:
        add_check(envelope, spec.check, ended)
    return envelope


def add_check(envelope: Envelope, command: str, ended: EndedRun) -> None:
    """Put into the envelope what came of the caller's check; it is said first."""
    try:
        check = CheckResult(**read_json_or_none(ended.directory / CHECK))
    except TypeError:
        reason = "the task failed before"
        if ended.error is None:
            reason = "the run was ended before the check had ended"
        check = CheckResult(
            command=mask(clean(command))[0], status="not_run", reason=reason
        )
    envelope.check = check
    if envelope.ok:
        envelope.summary = f"{check_line(check)} {envelope.summary}"


def check_line(check: CheckResult) -> str:
    """One sentence: what came of a check, and of the same on what the task began with."""
    line = f"Check {CHECK_WORDS[check.status]}"
    if check.exit:
        line = f"{line} (exit {check.exit})"
    if check.reason:
        line = f"{line}: {check.reason}"
    before = BEFORE.get((check.status, check.base_status or ""))
    if before:
        line = f"{line}; {before}"
    return f"{line}."


def capture_once(
    spec: DelegateSpec, scratch: Path, directory: Path, bounds: Bounds | None = None
) -> DelegateResult | None:
    """The stored result, or that of capturing the tree now. Removes a captured tree. None where there is no tree.

    Of a large tree a rest may stay for `jobs.run.tidy`. `bounds` are for a run that put
    too much there.
    """
    result = captured(spec, scratch, directory, bounds)
    is_lost = result is not None and result.lost is not None
    if not is_lost:
        _shadow_of(spec, scratch).remove(PROMPT_SECONDS)
    return result


def captured(
    spec: DelegateSpec, scratch: Path, directory: Path, bounds: Bounds | None = None
) -> DelegateResult | None:
    """As `capture_once`, but the tree stays."""
    shadow = _shadow_of(spec, scratch)
    result = DelegateResult.load(directory)
    if result is None and shadow.tree.is_dir() and (directory / SEED).is_file():
        result = _capture(spec, shadow, directory, bounds)
    return result


def _shadow_of(spec: DelegateSpec, scratch: Path) -> Shadow:
    # Whoever concludes has the workspace's programs on its own PATH.
    env = git_environment(os.environ, Path(spec.workspace))
    return Shadow(scratch, spec.git_timeout, env)


def _capture(
    spec: DelegateSpec, shadow: Shadow, directory: Path, bounds: Bounds | None
) -> DelegateResult:
    head = ""
    if bounds is not None:
        # Git needs room to store what the run changed.
        remove_tree(shadow.base / "tmp")
    try:
        record = read_json(directory / SEED)
        head = str(record["head"])
        preview_limit = max(spec.diff_limit, MAX_READABLE)
        capture = capture_tree(
            shadow, record["base_tree"], directory, preview_limit, bounds
        )
        result = make_result(record, capture, spec.diff_limit)
        write_atomically(directory / WORK, json.dumps(asdict(result)))
    except (CounselError, OSError, ValueError) as error:
        message = getattr(error, "message", None)
        reason = message or getattr(error, "strerror", None) or str(error)
        return DelegateResult.not_captured(
            head,
            f"The work could not be captured ({reason}); it is still in {shadow.tree}",
        )
    return result


def make_result(record: JsonObject, capture: Capture, limit: int) -> DelegateResult:
    """The result of a captured tree. `record` is `seed.json`, `limit` is in bytes of the diff in the result.

    A diff for reading that is longer than the limit is stored beside the patch.
    """
    readable_limit = max(limit, MAX_READABLE)
    text = visible(capture.preview.decode("utf-8", "replace"))
    readable, masked = mask(cut(text, readable_limit))
    diff = cut(readable, limit)
    patch = capture.patch_path
    # What is written out takes more room than what it stands for.
    whole = size(text) <= limit and len(capture.preview) <= limit
    if not whole:
        # Without it only the further pages are missing.
        with contextlib.suppress(OSError):
            write_atomically(patch.with_name(READABLE_DIFF), readable)
    exact = whole and not masked and diff.encode() == patch.read_bytes()

    warnings = []
    unreadable = [name for name, reason in record["omitted"] if reason == "unreadable"]
    if unreadable:
        warnings.append(
            f"not copied into the tree, because they cannot be read: {', '.join(unreadable[:20])}"
        )
    if capture.unreachable:
        warnings.append(
            f"not captured: what is in {capture.unreachable} directories that git cannot reach"
        )
    if capture.left_out:
        warnings.append(
            "not captured, because there is too much of it or git cannot store it: "
            f"{', '.join(capture.left_out[:MAX_NAMED])}"
        )
    if not whole:
        paged = "further pages of the result have the rest"
        if size(text) > readable_limit:
            paged = f"further pages of the result have {readable_limit}"
        warnings.append(
            f"the diff has {patch.stat().st_size} bytes; the first {limit} are in the stored result, {paged}, "
            "and diff_path has all"
        )
    warnings += _what_the_diff_hides(capture, diff, exact=exact)
    return DelegateResult(
        base_sha=record["head"],
        diff=diff,
        diff_exact=exact,
        diff_path=str(patch),
        diffstat=capture.diffstat,
        files=[
            asdict(_file_row(file, capture.sensitive))
            for file in capture.files[:MAX_LISTED]
        ],
        names=[
            [_latin_1(file.name), _latin_1(file.old_name), file.mode]
            for file in capture.files
        ],
        ignored=capture.ignored,
        planted=capture.suspicious,
        warnings=warnings,
        partial=bool(capture.left_out),
        submodules=list(record.get("submodules", ())),
    )


def _what_the_diff_hides(capture: Capture, diff: str, *, exact: bool) -> list[str]:
    """Warnings about text that a reader of the diff would not see, or not as it is."""
    warnings = []
    written_out = SPELLED_OUT.findall(diff)
    if written_out and not exact:
        kinds = ", ".join(sorted(set(written_out))[:10])
        warnings.append(
            f"the changed files hold {len(written_out)} characters that hide or reorder text; "
            f"the diff shows them written out: {kinds}"
        )
    unseen = []
    for file in capture.files:
        # A count of lines is missing where git takes a file for binary.
        is_program = is_source(file.name) or file.mode == EXECUTABLE
        if file.added is None and file.status != "D" and is_program:
            unseen.append(display_name(file.name))
    if unseen:
        names = ", ".join(unseen[:MAX_NAMED])
        warnings.append(
            f"git takes these {len(unseen)} source files for binary, so the diff does not show what is in them: {names}"
        )
    return warnings


def _latin_1(name: bytes | None) -> str | None:
    return None if name is None else name.decode("latin-1")


def _file_row(file: CapturedFile, sensitive: frozenset[bytes]) -> DiffFile:
    names = {file.name, file.old_name}
    is_sensitive = not names.isdisjoint(sensitive)
    is_build = any(name and is_build_file(name) for name in names)
    return DiffFile(
        path=display_name(file.name),
        status=file.status,
        added=file.added,
        deleted=file.deleted,
        sensitive=is_sensitive or None,
        build=is_build or None,
    )


def add_result(
    envelope: Envelope,
    result: DelegateResult | None,
    commands: Iterable[tuple[str, int | None]],
) -> None:
    """Put the result of a task and the commands it ran into its envelope, finished or not."""
    checks = []
    for command, exit_code in commands:
        masked, _ = mask(clean(command))
        checks.append(Check(command=cut(masked, MAX_COMMAND), exit_code=exit_code))
    # A task that never started has no list of checks, not an empty one.
    if checks or result is not None:
        envelope.checks = checks
    if result is None:
        return
    if result.lost:
        _add_loss(envelope, result.lost)
        return

    envelope.base_sha = result.base_sha
    envelope.diffstat = result.diffstat or "no changes"
    envelope.diff = result.diff
    envelope.diff_exact = result.diff_exact
    envelope.diff_path = result.diff_path or None
    envelope.files = [DiffFile(**row) for row in result.files]
    envelope.ignored = result.ignored or None
    envelope.planted = result.planted or None
    envelope.meta.warnings += result.warnings
    cut_short = not envelope.ok or envelope.meta.budget_reached is not None
    envelope.partial = result.partial or cut_short or None
    if envelope.ok:
        envelope.summary = (
            f"{result.diffstat or 'No files were changed'}. {envelope.summary}"
        )


def _add_loss(envelope: Envelope, why: str) -> None:
    """A run without a diff is not a success: add why, as its failure or beside the one it has."""
    if envelope.error:
        envelope.meta.warnings.append(why)
        return
    error = CounselError(
        Code.WORKTREE_FAILED,
        why,
        repair="Copy from there what you need, then make room.",
    )
    envelope.ok = False
    envelope.status = "failed"
    envelope.error = failure(error)
    envelope.summary = f"{envelope.tool} failed: {why}"
    envelope.partial = True


def orphaned_trees(trees: Path) -> Iterator[tuple[Path, Path]]:
    """Each scratch directory below `trees` and the directory of the job it belongs to.

    Those that are only just being made are left out. The job's directory need not exist
    any more.
    """
    try:
        entries = list(trees.iterdir())
    except OSError:
        return
    for scratch in entries:
        owner = scratch / OWNER
        try:
            if owner.is_file():
                yield scratch, Path(os.fsdecode(owner.read_bytes()) or "/nonexistent")
            elif time.time() - scratch.lstat().st_mtime > UNCLAIMED_SECONDS:
                yield scratch, Path("/nonexistent")
        except OSError:
            continue
