"""Programs in place of Codex: `exec` is scripted, every other subcommand is run by the real binary."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.conftest import World

THREAD = "0199a000-0000-7000-8000-000000000001"

TEMPLATE = """#!{python} -IS
import json, os, signal, sys, time
THREAD = {thread!r}
if sys.argv[1] == "sandbox":  # the real one would have to be readable inside
    print("canary\\nprobed")
    sys.exit()
if sys.argv[1] != "exec":
    os.execv({real!r}, [{real!r}, *sys.argv[1:]])
out = sys.stdout.buffer

def event(kind, **fields):
    out.write(json.dumps({{"type": kind, **fields}}).encode() + b"\\n")
    out.flush()

def message(text):
    event("item.completed", item={{"id": "item_0", "type": "agent_message", "text": text}})

def begin():
    event("thread.started", thread_id=THREAD)
    event("turn.started")

def end():
    event("turn.completed", usage={{"input_tokens": 1, "output_tokens": 1}})

{body}
"""


def install(world: World, body: str) -> None:
    """Make this the world's Codex: `body` is what it does on `exec`, with `begin`, `message`, `event` and `end`."""
    file = world.base / "fake" / "codex"
    file.parent.mkdir(exist_ok=True)
    text = TEMPLATE.format(
        python=sys.executable, thread=THREAD, real=world.binary, body=body
    )
    file.write_text(text, "utf-8")
    file.chmod(0o755)
    world.binary = str(file)


def executable(path: Path, text: str) -> Path:
    """A shell script that can be run; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", "utf-8")
    path.chmod(0o755)
    return path
