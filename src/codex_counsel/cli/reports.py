"""What each tool that runs no model found, as a person wants to read it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from codex_counsel.cli.findings import add_check, add_findings
from codex_counsel.cli.page import (
    Page,
    Span,
    Style,
    columns,
    fitted,
    flat,
)
from codex_counsel.cli.review_text import (
    add_warnings,
    counted,
    project_file_line,
    rule_file_lines,
    skipped_words,
)
from codex_counsel.cli.table import SHORT_ID, Heading, add_table, short_ids
from codex_counsel.cli.task_text import changed_file
from codex_counsel.cli.usage import add_usage
from codex_counsel.cli.words import in_terminal_words
from codex_counsel.contract.envelope import Coverage, DiffFile, Envelope
from codex_counsel.contract.vocabulary import PROJECT_FILE
from codex_counsel.system.amounts import short_number
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.text import one_line, visible

COLUMNS = (
    Heading("JOB", is_kept=True),
    Heading("KIND", is_kept=True),
    Heading("STATE", is_kept=True),
    Heading("AGE", is_kept=True),
    Heading("TOOK"),
    Heading("TOKENS"),
    Heading("DIRECTORY", is_constant_told=False),
    Heading("REQUEST"),
)
MAX_PATHS = 20
"""Paths of a list that a report shows; `--json` has them all."""
FIRST_PATHS = 3
"""The same where they stand on one line."""
LOGINS = {
    "api_key": "an API key",
    "chatgpt": "a ChatGPT account",
    "provider": "your own model provider",
    "keyring": "in the keyring",
}
MODEL_SOURCES = {
    "setting": "CODEX_COUNSEL_MODEL",
    "codex": "your Codex configuration",
    "default": "default of Codex",
}
EFFORT_SOURCES = {
    "setting": "CODEX_COUNSEL_EFFORT",
    "codex": "your Codex configuration",
    "opinion": "because you configured none",
    "model": "default of the model",
}
INSTRUCTIONS = {
    "own": "consult, review, plan: a short text of codex-counsel; delegate: Codex's",
    "codex": "Codex's",
}
STATUS_STYLES: dict[str, Style] = {
    "completed": "green",
    "pass": "green",
    "concerns": "yellow",
    "fail": "red",
    "unknown": "yellow",
    "failed": "red",
    "corrupt": "red",
    "running": "cyan",
    "queued": "cyan",
    "cancelled": "dim",
}


# --- jobs


def add_jobs(page: Page, envelope: Envelope) -> None:
    """Add a table with a line for each run. On a terminal it fits the width and ids are shortened."""
    rows: list[JsonObject] = envelope.data["jobs"]
    ids = short_ids(page, [str(row["job_id"]) for row in rows])
    lines = []
    for row, job_id in zip(rows, ids, strict=True):
        style = STATUS_STYLES.get(row.get("verdict") or row["status"], "")
        request = one_line(str(row.get("subject") or row.get("error") or ""), 200)
        if "parent" in row:
            request = f"of {str(row['parent'])[:SHORT_ID]}: {request}"
        line: list[Span] = [
            (job_id, ""),
            (_kind(row), ""),
            (_state(row), style),
            (_age(row), ""),
            (elapsed_time(row.get("elapsed_ms")), ""),
            (_tokens(row), ""),
            (_directory(row, is_wide=page.look.width is None), ""),
            (request, ""),
        ]
        lines.append(line)
    add_table(page, COLUMNS, lines)


def _kind(row: JsonObject) -> str:
    if row.get("kind") == "proof":
        return "proof"
    words = str(row.get("tool", "-")).removeprefix("codex_")
    return {"review_changes": "review", "review_plan": "plan"}.get(words, words)


def _state(row: JsonObject) -> str:
    """The verdict of a review that has one, else the status."""
    if row.get("verdict"):
        return str(row["verdict"])
    if row["status"] == "completed" and row.get("cut_short"):
        return "cut short"
    if row["status"] == "completed":
        return "done"
    return str(row["status"])


def _age(row: JsonObject) -> str:
    started = row.get("started")
    if not started:
        return "-"
    moment = datetime.fromisoformat(str(started))
    seconds = max(int(time.time() - moment.timestamp()), 0)
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def elapsed_time(milliseconds: int | None) -> str:
    """`4 s`, `3m 20s`, `1h 02m`."""
    if milliseconds is None:
        return "-"
    seconds = milliseconds // 1000
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}m {seconds % 60:02}s"
    return f"{seconds // 3600}h {seconds % 3600 // 60:02}m"


def _tokens(row: JsonObject) -> str:
    tokens = row.get("tokens")
    if not tokens:
        return "-"
    return short_number(tokens.get("input", 0) + tokens.get("output", 0))


def _directory(row: JsonObject, *, is_wide: bool) -> str:
    path = str(row.get("workspace", "-"))
    if is_wide:
        return one_line(path, 500)
    return fitted(one_line(path.rpartition("/")[2], 100), 14)


# --- status, models


def add_status(page: Page, envelope: Envelope) -> None:
    """Add whether Codex is usable here, with every warning of the envelope."""
    data = envelope.data
    style: Style = "green" if data.get("usable") else "red"
    page.add(in_terminal_words(envelope.summary), style)
    lines = [
        ("codex", _codex(data.get("codex", {}))),
        ("login", _login(data.get("login"))),
        ("sandbox", _sandbox(data.get("sandbox"))),
        ("limits", _limits(data.get("limits"))),
        ("this month", _month(data.get("usage") or {})),
        ("directory", _workspace(data.get("workspace", {}))),
        ("findings", _findings(data.get("findings") or {})),
        ("project file", _project_file(data.get("project_file") or {})),
        ("mcp servers", _removed_servers(data.get("removed_servers") or [])),
        *_defaults(data.get("defaults") or {}),
        ("results in", str(data.get("state_dir", ""))),
    ]
    for name, words in lines:
        if words:
            page.add_labelled(f"  {name:<14}", words)
    for warning in envelope.meta.warnings:
        page.add(f"warning: {in_terminal_words(warning)}", "yellow", indent="  ")
    for step in envelope.next_steps or ():
        words = _with_program(in_terminal_words(step), data.get("codex", {}))
        page.add(f"to do: {words}", "bold")


def _with_program(words: str, codex: JsonObject) -> str:
    """The step with the path of Codex where no `codex` is on PATH: then the bare name would start nothing."""
    if codex.get("source") != "package":
        return words
    return words.replace("codex login", f"{codex['path']} login")


def _codex(codex: JsonObject) -> str:
    if "error" in codex:
        return _problem(codex)
    return f"{codex.get('version')} at {codex.get('path')} (from {codex.get('source')})"


def _login(login: JsonObject | None) -> str:
    if not login:
        return ""
    if login.get("hint"):
        return "none"
    return LOGINS.get(login["kind"], str(login["kind"]))


def _sandbox(sandbox: JsonObject | None) -> str:
    if not sandbox:
        return ""
    if not sandbox.get("usable"):
        return f"NOT usable: {sandbox.get('reason')}"
    kinds: dict[str, list[str]] = {}
    for kind, boundary in sandbox.get("read_boundary", {}).items():
        kinds.setdefault(boundary, []).append(kind)
    parts = [f"{boundary} ({', '.join(names)})" for boundary, names in kinds.items()]
    return f"usable; a run can read: {', '.join(parts)}"


def _limits(limits: JsonObject | None) -> str:
    if not limits:
        return ""
    parts = []
    in_force = limits.get("in_force")
    if in_force:
        parts.append(str(in_force.get("message")))
    if limits.get("cleared"):
        parts.append("the remembered limit was forgotten")
    for name in ("quota", "quota_error"):
        if limits.get(name):
            parts.append(f"{name.replace('_', ' ')}: {flat(limits[name])}")
    if limits.get("reserve"):
        parts.append(_reserve(limits["reserve"]))
    return "; ".join(parts) or "none in force"


def _reserve(reserve: JsonObject) -> str:
    """How much of each usage window is kept, and how much is left."""
    problem = reserve.get("problem")
    if problem and not reserve.get("windows"):
        return f"reserve of {reserve['percent']} %: not checked, {problem}"
    lefts = [
        f"{window['left_percent']:g} % left of the {window['window']} window"
        for window in reserve.get("windows", ())
    ]
    left = f"reserve of {reserve['percent']} %: {', '.join(lefts)}"
    return f"{left} as told last ({problem})" if problem else left


def _month(usage: JsonObject) -> str:
    if not usage.get("runs"):
        return ""
    tokens = short_number(usage["tokens"])
    return f"{counted(usage['runs'], 'run')}, {tokens} tokens, {usage['minutes']:g} minutes"


def _workspace(workspace: JsonObject) -> str:
    if "error" in workspace:
        return _problem(workspace)
    repository = workspace.get("repository")
    root = workspace.get("root")
    if repository is None:
        return f"{root}, in no repository"
    if repository == root:
        return f"{root}, a repository"
    return f"{root}, in the repository {repository}"


def _findings(counts: JsonObject) -> str:
    if not counts:
        return ""
    parts = [f"{count} {state}" for state, count in counts.items()]
    return f"{', '.join(parts)}: codex-counsel findings"


def _project_file(file: JsonObject) -> str:
    if "error" in file:
        return f"NOT valid: {in_terminal_words(str(file['message']))}"
    if not file:
        return ""
    return f"{PROJECT_FILE} of {str(file['revision'])[:12]} is valid"


def _removed_servers(servers: list[JsonObject]) -> str:
    """The files; a warning says of each server what to write instead. Of very many servers only the first are here."""
    if not servers:
        return ""
    files = ", ".join(sorted({server["file"] for server in servers}))
    return f"servers of Claude Code to be changed in {files}: see the warnings"


def _problem(part: JsonObject) -> str:
    return f"{part['error']}: {in_terminal_words(str(part.get('message', '')))}"


def _defaults(defaults: JsonObject) -> list[tuple[str, str]]:
    """Model, effort and isolation of a run that names none of them, with who decided them."""
    model = defaults.get("model")
    if model:
        model += _decided_by(MODEL_SOURCES, defaults.get("model_source"))
    opinion = defaults.get("effort") or defaults.get("model_effort")
    efforts = []
    if opinion:
        source = _decided_by(EFFORT_SOURCES, defaults.get("effort_source"))
        efforts.append(f"consult, review, plan: {opinion}{source}")
    task = defaults.get("delegate_effort") or defaults.get("model_effort")
    if task:
        source = _decided_by(EFFORT_SOURCES, defaults.get("delegate_effort_source"))
        efforts.append(f"delegate: {task}{source}")
    return [
        ("model", model or "decided by Codex"),
        ("effort", "; ".join(efforts) or "decided by the model"),
        ("isolation", str(defaults.get("isolation", ""))),
        ("instructions", INSTRUCTIONS.get(defaults.get("instructions", ""), "")),
    ]


def _decided_by(sources: dict[str, str], name: str | None) -> str:
    if name is None:
        return ""
    return f" ({sources.get(name, name)})"


def add_models(page: Page, envelope: Envelope) -> None:
    """Add a line for each model, with its efforts."""
    rows: list[JsonObject] = envelope.data["models"]
    page.add(envelope.summary, "bold")
    width = max((columns(str(row["model"])) for row in rows), default=0)
    for row in rows:
        efforts = []
        for effort in row["efforts"]:
            mark = ""
            if effort == row.get("default_effort"):
                mark = " (default)"
            efforts.append(f"{effort}{mark}")
        name = str(row["model"])
        name += " " * (width - columns(name) + 2)
        style: Style = "bold" if row.get("default") else ""
        page.add_spans((f"  {name}", style), (", ".join(efforts), ""))


# --- dry runs


def add_dry_run(page: Page, envelope: Envelope) -> None:
    """Add what a review or a delegate would send, start from and be able to touch."""
    data = envelope.data
    page.add(in_terminal_words(envelope.summary), "bold")
    blocked = data.get("blocked")
    if blocked:
        words = in_terminal_words(str(blocked["message"]))
        page.add(f"but it could not run now: {blocked['code']}: {words}", "red")
    files = data.get("files") or []
    if files:
        page.add("files:")
    for file in files:
        page.add_spans(*changed_file(DiffFile(**file)))
    _add_more(page, data.get("files_not_shown", 0), "more files")

    if envelope.coverage:
        _add_coverage(page, envelope.coverage)
    _add_policy(page, envelope)
    _add_since(page, data.get("since"))
    seed = data.get("seed")
    if seed:
        _add_seed(page, seed)
    sandbox = data.get("sandbox")
    if sandbox:
        _add_sandbox(page, sandbox)
    reserve = data.get("reserve")
    if reserve and not blocked:
        page.note(_reserve(reserve))
    max_tokens = data.get("max_tokens")
    if max_tokens:
        page.note(f"at {max_tokens} tokens Codex is asked to answer at once")
    additions = data.get("codex_adds") or ()
    if additions:
        total = sum(part.get("bytes", 0) for part in additions)
        # Not every release lists its own base instructions.
        page.note(f"Codex sends at least {counted(total, 'byte')} before the prompt")
    add_warnings(page, envelope)


def _add_policy(page: Page, envelope: Envelope) -> None:
    """Add what the project file decides, and the check of a task with where it comes from."""
    if envelope.meta.project_file:
        page.add(project_file_line(envelope.meta.project_file))
    check = envelope.data.get("check")
    if not check:
        return
    source = ""
    if "source" in check:
        source = f" (from {check['source']})"
    page.add(f"check: {one_line(visible(check['command']), 500)}{source}")


def _add_coverage(page: Page, coverage: Coverage) -> None:
    extent = "NOT all of the change is sent"
    if coverage.complete:
        extent = "all of the change is sent"
    if coverage.complete and coverage.seen:
        extent = "all of the change is sent or was seen by earlier reviews"
    extent += skipped_words(coverage)
    omitted = [item for item in coverage.omitted if item.reason != "skipped"]
    page.add(f"{extent}; left out: {len(omitted)}, masked: {coverage.redactions}")
    for omission in omitted:
        reason = omission.reason.replace("_", " ")
        page.add(f"{omission.path} ({reason})", indent="  ")
    for line in rule_file_lines(coverage):
        page.add(line)


def _add_since(page: Page, since: JsonObject | None) -> None:
    if not since:
        return
    page.add(
        f"of the files of the change {since['files_new']} are new, {since['files_in_part']} were seen in part, "
        f"and {since['files_seen']} were seen by earlier reviews and are not sent"
    )


def _add_seed(page: Page, seed: JsonObject) -> None:
    head = str(seed.get("head") or "no commit")[:12]
    page.add(
        f"start: {head}, {counted(seed['tracked'], 'tracked file')} ({seed['changed']} changed), "
        f"{counted(seed['untracked'], 'untracked file')}, {counted(seed['bytes'], 'byte')}"
    )
    omitted = seed.get("omitted") or []
    if omitted:
        page.add("not in the copy:")
    for entry in omitted[:MAX_PATHS]:
        path, reason = entry
        page.add(f"{path} ({reason.replace('_', ' ')})", indent="  ")
    _add_more(page, len(omitted) - MAX_PATHS, "more; --json lists them")


def _add_sandbox(page: Page, sandbox: JsonObject) -> None:
    network = "on" if sandbox.get("network") else "off"
    page.add(
        f"sandbox: {sandbox.get('mode')}, reads {sandbox.get('read_boundary')}, network {network}"
    )
    for name, title in (
        ("readable", "also readable"),
        ("secrets", "secret files of the workspace, denied"),
        ("denied", "denied elsewhere"),
    ):
        paths = sandbox.get(name) or []
        if paths:
            more = ""
            if len(paths) > FIRST_PATHS:
                more = f" and {len(paths) - FIRST_PATHS} more"
            page.note(f"- {title}: {', '.join(paths[:FIRST_PATHS])}{more}")


def _add_more(page: Page, count: int, words: str) -> None:
    if count > 0:
        page.note(f"and {count} {words}")


# --- diffs


def add_apply(page: Page, envelope: Envelope) -> None:
    """Add what was written, would be written or was put back, and how to take it back."""
    data = envelope.data
    page.add(in_terminal_words(envelope.summary), "green")
    merged = set(data.get("merged") or ())
    known = {file.path: file for file in envelope.files or ()}
    for path in data.get("files") or ():
        spans = changed_file(known.get(path) or DiffFile(path=path, status=" "))
        if path in merged:
            spans.append(("  merged with your changes", "cyan"))
        page.add_spans(*spans)
    kept = data.get("kept")
    if kept:
        page.add(f"kept: {flat(kept)}", "yellow", indent="  ")
    if data.get("undo"):
        page.add(
            f"take it back with: codex-counsel apply --undo {envelope.meta.job_id}"
        )
    add_warnings(page, envelope)


def add_transfer(page: Page, envelope: Envelope) -> None:
    """Add which session goes on in Codex, what of it was taken over, and with which command."""
    data = dict(envelope.data)
    page.add(envelope.summary, "green")
    page.add(f"session: {data.pop('transcript', '')}", indent="  ")
    data.pop("resume_command", None)
    for name, value in data.items():
        page.add(f"{name.replace('_', ' ')}: {flat(value)}", indent="  ")
    add_warnings(page, envelope)


def _add_comparison(page: Page, envelope: Envelope) -> None:
    # It reads the records of tasks, which no other report does.
    from codex_counsel.cli.compare_text import add_comparison

    add_comparison(page, envelope)


def _add_taken(page: Page, envelope: Envelope) -> None:
    # As above: it is needed by one verb.
    from codex_counsel.cli.take import add_taken

    add_taken(page, envelope)


REPORTS: dict[str, Callable[[Page, Envelope], None]] = {
    "codex_job_list": add_jobs,
    "codex_status": add_status,
    "codex_models": add_models,
    "codex_dry_run": add_dry_run,
    "codex_delegate_dry_run": add_dry_run,
    "codex_apply": add_apply,
    "codex_findings": add_findings,
    "codex_transfer": add_transfer,
    "codex-counsel check": add_check,
    "codex-counsel compare": _add_comparison,
    "codex-counsel take": _add_taken,
    "codex-counsel usage": add_usage,
}
"""By the tool of the envelope."""
