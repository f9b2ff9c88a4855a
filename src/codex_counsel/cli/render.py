"""Envelopes as a person wants to read them, and the progress line of a terminal."""

from __future__ import annotations

import json
import sys
from typing import Any, Self

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.errors import CounselError
from codex_counsel.jobs.job import Job, describe
from codex_counsel.system.text import one_line


def show(wire: EnvelopeDict, *, as_json: bool) -> int:
    """Print an envelope; failures go to stderr unless JSON was asked for. Returns 0 for `ok`, else 1."""
    if as_json:
        print(json.dumps(wire, ensure_ascii=False, indent=2))
    elif wire["ok"]:
        print("\n".join(_readable(wire)))
    else:
        print("\n".join(_failure(wire)), file=sys.stderr)
    return 0 if wire["ok"] else 1


def _readable(wire: EnvelopeDict) -> list[str]:
    if "verdict" in wire:
        from codex_counsel.cli.formats import text

        return [text(wire)]
    if "diffstat" in wire:
        return work(wire)
    if "answer" in wire:
        return [wire["answer"], "", *footer(wire)]
    if wire["status"] in ("running", "queued"):
        return [wire["summary"], f"fetch it with: codex-counsel result --wait {wire['job_id']}"]
    return [wire["summary"], *_data(wire.get("data")), *(f"to do: {step}" for step in wire.get("next_steps", ()))]


def work(wire: EnvelopeDict) -> list[str]:
    """A delegate's report, its evidence and its diff."""
    checks = [f"  exit {check.get('exit_code')}: {one_line(check['command'], 100)}" for check in wire.get("checks", ())]
    notes = [f"  ignored, not in the diff: {name}" for name in wire.get("ignored", ())]
    notes += [f"  PLANTED: {name}" for name in wire.get("planted", ())]
    notes += [f"  sensitive: {file['path']}" for file in wire.get("files", ()) if file.get("sensitive")]
    apply = [f"apply it with: codex-counsel apply {wire['meta'].get('job_id')}"] if wire.get("files") else []
    ran = ["commands it ran:", *checks] if checks else []
    return [
        wire.get("answer", ""),
        "",
        wire.get("diff", ""),
        *ran,
        f"{wire['diffstat']}",
        *notes,
        *apply,
        *footer(wire),
    ]


def _data(data: Any) -> list[str]:
    if not isinstance(data, dict):
        return []
    if "jobs" in data:
        return [_job(row) for row in data["jobs"]]
    if "models" in data:
        return [f"  {row['model']}: {', '.join(row['efforts'])}" for row in data["models"]]
    return [f"  {name}: {_flat(value)}" for name, value in data.items() if name not in ("settings", "usable")]


def _job(row: dict[str, Any]) -> str:
    words = (
        row.get("started", "-"),
        row["job_id"],
        f"{row['status']:<9}",
        row.get("tool", "-"),
        row.get("subject", ""),
    )
    return "  " + "  ".join(words)


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_flat(item)}" for name, item in value.items() if item is not None)
    return str(value)


def _failure(wire: EnvelopeDict) -> list[str]:
    error = wire["error"]
    lines = [f"{error['code']}: {error['message']}", f"what to do: {error['repair']}"]
    if wire.get("files"):
        lines += [f"its work so far: {wire['diffstat']}, in {wire.get('diff_path')}"]
    if wire.get("answer"):
        lines += ["", "said before it ended:", wire["answer"]]
    return lines + [f"{name}: {_flat(value)}" for name, value in error.get("details", {}).items()]


def footer(wire: EnvelopeDict) -> list[str]:
    """Where an answer came from and what it cost."""
    meta = wire["meta"]
    codex, sandbox = meta.get("codex", {}), meta.get("sandbox", {})
    model = meta.get("model", "default model") + (f", effort {meta['effort']}" if meta.get("effort") else "")
    network = "on" if sandbox.get("network") else "off"
    lines = [
        f"— Codex {codex.get('version')}, {model}, {meta['elapsed_ms'] / 1000:.1f} s",
        f"  sandbox: {sandbox.get('mode')}, reads {sandbox.get('read_boundary')}, network {network}",
    ]
    if usage := meta.get("usage"):
        lines.append(f"  tokens: {usage['input']} in ({usage['cached_input']} cached), {usage['output']} out")
    lines.append(f"  continue with: --session-id {meta.get('session_id')}")
    return lines + [f"  note: {warning}" for warning in meta.get("warnings", ())]


class ProgressLine:
    """One line on stderr, rewritten; nothing when stderr is no terminal."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def update(self, job: Job) -> None:
        if self._shown:
            try:
                progress = job.running().progress
            except CounselError:  # a run without a record has no progress to show
                return
            print(
                f"\r\x1b[K{one_line(describe(progress), 78)}" if progress else "", end="", file=sys.stderr, flush=True
            )

    def __exit__(self, *_: object) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
