"""A model service on loopback that says what a script says, for the real `codex` binary to talk to.

It speaks OpenAI's Responses API, so everything but the tokens is real: the binary, its
sandbox, its tools, its events. Other clients of that API may ask it too, also for an answer
in one document; trouble is played on streams alone.

    from codex_counsel.loopback import Loopback, say, shell

    with Loopback([shell("ls; cat app.py"), say("It is fine.")]) as server:
        (codex_home / "config.toml").write_text(server.config_toml())
        subprocess.run(["codex", "exec", "--json", "-"], input=b"Is it?", env={**env, "CODEX_HOME": str(codex_home)})
    assert "def main" in server.requests[1].outputs[0]

**Script.** A reply for every request; a list, one reply per request of a thread (retries count, the last one repeats,
and threads are independent of each other); or a function of the `Request`.

**Answers.** `say` a message (a mapping is said as JSON) and `think` a summary. `shell` and `patch` call a tool in the
way of the model that was asked: directly, or in code mode through JavaScript. `run_code`, `call` and `custom` call a
tool as named on the wire. `items` puts several of them into one answer. `answer.but(usage=Usage(…))` changes what is
reported, `.but(end_turn=False)` makes Codex ask again, `.but(headers=…)` adds headers such as `x-codex-*` limits.

**Trouble.** `http_error(status, error(code))` and `usage_limit` refuse; `failed` and `incomplete` end a stream badly;
`drop` hangs up and `stall` falls silent at a point of the answer; `malformed` and `garbage` are not what was agreed.

**Time.** `hold(reply)` is a gate: `reached` says that the model was asked, `release` lets the answer out.
`slow(reply, seconds)` delays. `server.asked(n)` waits for the n-th request, `request.over` is set when its answer was
sent or the client went away. `close` ends every wait, so no thread outlives the server.

**Record.** `server.requests` holds each model request: `prompt`, `developer`, `tools`, `outputs`, `model`, `effort`,
`schema`, `thread_id`, `index`, `headers`, `body`. `server.visits` holds what else was asked for.

**Login.** `Account().auth_json()` is a ChatGPT login without a signature. With `-c chatgpt_base_url` set to
`server.chatgpt_base_url` the app server reads that account's plan and limits here; `-c openai_base_url` brings the
built-in provider here, and `CODEX_REFRESH_TOKEN_URL_OVERRIDE=server.refresh_url` the renewal of the login. Such
requests are compressed, which is refused: set `features.enable_request_compression=false`.
"""

from __future__ import annotations

from codex_counsel.loopback.account import Account, Window
from codex_counsel.loopback.reply import (
    Answer,
    Reply,
    Script,
    Usage,
    call,
    custom,
    items,
    patch,
    run_code,
    say,
    shell,
    think,
)
from codex_counsel.loopback.request import Request
from codex_counsel.loopback.server import Loopback
from codex_counsel.loopback.timing import Gate, hold, slow
from codex_counsel.loopback.trouble import (
    drop,
    error,
    failed,
    garbage,
    http_error,
    incomplete,
    malformed,
    stall,
    usage_limit,
)

__all__ = [
    "Account",
    "Answer",
    "Gate",
    "Loopback",
    "Reply",
    "Request",
    "Script",
    "Usage",
    "Window",
    "call",
    "custom",
    "drop",
    "error",
    "failed",
    "garbage",
    "hold",
    "http_error",
    "incomplete",
    "items",
    "malformed",
    "patch",
    "run_code",
    "say",
    "shell",
    "slow",
    "stall",
    "think",
    "usage_limit",
]
