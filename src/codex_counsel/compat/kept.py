"""What a thread keeps, read again from its note: checked as the call that it came from."""

from __future__ import annotations

from dataclasses import replace

from codex_counsel.compat import config as configs
from codex_counsel.compat import options as thread_options
from codex_counsel.contract.compat import CodexCall, ServerOptions, ThreadOptions
from codex_counsel.contract.request import parse
from codex_counsel.errors import Code, CounselError
from codex_counsel.prepare.context import Context
from codex_counsel.system.json_values import JsonObject


def options_of(context: Context, kept: JsonObject) -> ThreadOptions | None:
    """The options of `ThreadOptions.to_json`; None where no call could have named them.

    What is not known here, such as an option of a newer release, is left out. Raises as
    `options.of_call` for what was right once, such as a workspace that is gone.
    """
    config = kept.get("config") or {}
    arguments = {
        "prompt": "the next turn",
        "sandbox": kept.get("sandbox") or "read-only",
        "model": kept.get("model"),
        "profile": kept.get("profile"),
        "cwd": kept.get("root"),
        "base-instructions": kept.get("base_instructions"),
        "developer-instructions": kept.get("developer_instructions"),
        "compact-prompt": kept.get("compact_prompt"),
        "config": config,
    }
    if kept.get("effort") and isinstance(config, dict):
        arguments["config"] = {**config, configs.EFFORT: kept["effort"]}
    try:
        call = parse(CodexCall, arguments)
        options = thread_options.of_call(context, call, ServerOptions())
    except CounselError as error:
        if error.code != Code.INVALID_ARGUMENTS:
            raise
        return None
    return replace(options, web_search=kept.get("web_search") is True)
