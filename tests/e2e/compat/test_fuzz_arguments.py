"""Arguments of every kind for `codex`: they widen nothing, and what is refused costs nothing. Seeded."""

from __future__ import annotations

import contextlib
import itertools
import random
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from codex_counsel.codex.binary import Codex
from codex_counsel.codex.command import Turn, argv
from codex_counsel.codex.sandbox import Boundary
from codex_counsel.compat import config as configs
from codex_counsel.compat import options as thread_options
from codex_counsel.compat.prepare import config_of
from codex_counsel.contract.compat import (
    CodexCall,
    CodexReplyCall,
    ServerOptions,
    ThreadOptions,
    without_empty,
)
from codex_counsel.contract.request import argument_names, parse
from codex_counsel.errors import Code, CounselError
from codex_counsel.loopback import Loopback, say
from codex_counsel.prepare.context import Context
from tests.conftest import World
from tests.e2e.compat.client import ARGV, ask, text
from tests.e2e.runs import assert_nothing_is_left
from tests.e2e.server.wire import ServerProcess

Model = Callable[..., Loopback]
SEED = 20261122
OBJECTS = 4_000
CALLS = 300

WIDENING = [
    "sandbox_workspace_write",
    "sandbox_workspace_write.network_access",
    "permissions",
    "default_permissions",
    "shell_environment_policy.inherit",
    "mcp_servers",
    "projects",
    "notify",
    "features.apps",
    "model_provider",
    "model_providers",
    "openai_base_url",
    "model_instructions_file",
    "hooks",
    "allow_login_shell",
]
ALLOWED = [*configs.PASSED, *configs.ARGUMENTS, *configs.SWITCHES_OF_WEB_SEARCH]
ODD_TEXTS = [
    "",
    " ",
    "\0",
    "-c",
    "--dangerously-bypass-approvals-and-sandbox",
    "danger-full-access",
    'x"\nsandbox_mode="danger-full-access"\n[permissions.x]\n',
    '"""\n[sandbox_workspace_write]\nnetwork_access=true\n',
    "x', sandbox_mode='danger-full-access",
    "a=b",
    "{}",
    "\x1b]0;x\x07\x9b31m",
    "\u202e\u2028\u00e9\U0001f600\x7f",
    "../../etc",
    "/",
    "~",
    "$(id)`id`",
]
LONE_SURROGATE = "\ud800"
PLAUSIBLE: dict[str, list[Any]] = {
    "prompt": ["What is it?"],
    "approval-policy": ["never", "on-request", "untrusted", "on-failure"],
    "sandbox": ["read-only", "workspace-write", "danger-full-access"],
    "cwd": [".", "absent", "sub"],
    "include-plan-tool": [True, False],
    "model_reasoning_effort": ["low", "xhigh"],
    "model_reasoning_summary": ["auto", "none"],
    "model_verbosity": ["low"],
    "personality": ["friendly"],
    "model_context_window": [50_000],
    "model_auto_compact_token_limit": [20_000],
    "tool_output_token_limit": [1_000],
    "web_search": ["live", "cached", "disabled"],
    "approval_policy": ["never", "on-request"],
    "sandbox_mode": ["read-only", "workspace-write"],
    "tools.web_search": [True],
    "features.web_search_request": [True],
}


class Fuzz:
    """Draws arguments, the same for the same seed. `surrogates`: some texts have lone ones, which no wire carries."""

    def __init__(self, seed: int, *, surrogates: bool) -> None:
        self.random = random.Random(seed)
        self.texts = [*ODD_TEXTS, LONE_SURROGATE] if surrogates else ODD_TEXTS

    def arguments(self) -> dict[str, Any]:
        names = self.random.sample(argument_names(CodexCall), self.random.randint(0, 6))
        drawn = {name: self.value_of(name) for name in names if name != "config"}
        if self.random.random() < 0.9:
            drawn["prompt"] = self.value_of("prompt")
        if self.random.random() < 0.7:
            drawn["config"] = self.config()
        if self.random.random() < 0.05:
            drawn[self.key()] = self.value()
        return drawn

    def value_of(self, name: str) -> Any:
        if self.random.random() < 0.15:
            return self.value()
        return self.random.choice(PLAUSIBLE.get(name, ["Be.", "work", "x"]))

    def config(self) -> Any:
        if self.random.random() < 0.05:
            return self.value()
        tree: dict[str, Any] = {}
        for _ in range(self.random.randint(0, 4)):
            name = self.key()
            tree[name] = self.value_of(name)
        if self.random.random() < 0.3:
            tree = self.nested(tree)
        return tree

    def nested(self, tree: dict[str, Any]) -> dict[str, Any]:
        """The same values, those with dotted names as tables."""
        result: dict[str, Any] = {}
        for name, value in tree.items():
            table, dot, rest = name.partition(".")
            if dot:
                result[table] = {rest: value}
            else:
                result[name] = value
        return result

    def key(self) -> str:
        draw = self.random.random()
        if draw < 0.7:
            return self.random.choice(ALLOWED)
        if draw < 0.8:
            return self.random.choice(WIDENING)
        if draw < 0.9:
            return self.random.choice(ALLOWED) + self.random.choice(self.texts)
        return self.random.choice(self.texts) + self.random.choice(ALLOWED)

    def value(self, levels: int = 4) -> Any:
        kind = self.random.randrange(9)
        if levels and kind == 0:
            return [self.value(levels - 1) for _ in range(self.random.randint(0, 4))]
        if levels and kind == 1:
            keys = [self.key() for _ in range(self.random.randint(0, 4))]
            return {key: self.value(levels - 1) for key in keys}
        if kind == 2:
            return self.deep(self.random.choice([9, 60]))
        if kind == 3:
            return self.random.choice(self.texts) * self.random.choice([100, 40_000])
        scalars = [None, True, False, 0, -1, 10**30, 1.5, 1e300, *self.texts]
        return self.random.choice(scalars)

    def deep(self, levels: int) -> Any:
        tree: Any = self.random.choice(self.texts)
        for _ in range(levels):
            tree = {self.key(): tree}
        return tree


def accepted(context: Context, arguments: dict[str, Any]) -> ThreadOptions | None:
    """What a thread with these arguments keeps; None where they are refused. Any other error fails the test."""
    try:
        call = parse(CodexCall, arguments)
        options = thread_options.of_call(context, call, ServerOptions())
        thread_options.notes(call)
    except CounselError as error:
        refusal = error
    else:
        return options
    assert refusal.code in REFUSALS
    assert len(refusal.message) < 6_000
    return None


def turn_of(options: ThreadOptions, config: dict[str, Any]) -> Turn:
    """The turn of a run with these options, as the flow makes it."""
    return Turn(
        Boundary(Path("/srv/project")),
        model=options.model,
        effort=options.effort,
        profile=options.profile,
        web_search=options.web_search,
        config=config,
        permissions="counsel_test",
    )


REFUSALS = (Code.INVALID_ARGUMENTS, Code.INPUT_TOO_LARGE, Code.WORKSPACE_INVALID)
CODEX = Codex(Path("/opt/codex/bin/codex"), (), "0.169.0", "PATH")
NAMES = {*configs.PASSED, "developer_instructions", "compact_prompt"}


def values_of(command: tuple[str, ...]) -> list[str]:
    return [value for flag, value in itertools.pairwise(command) if flag == "-c"]


def test_no_arguments_add_more_to_the_command_line_than_the_table_has(
    world: World,
) -> None:
    world.repository.begin()
    (world.workspace / "sub").mkdir()
    (world.codex_home / "work.config.toml").write_text("")
    context = Context.of(world.env, world.workspace)
    fuzz = Fuzz(SEED, surrogates=True)
    seen: Counter[str] = Counter()
    for _ in range(OBJECTS):
        arguments = fuzz.arguments()
        options = accepted(context, arguments)
        seen["accepted" if options else "refused"] += 1
        if options is None:
            continue
        assert options.sandbox in ("read-only", "workspace-write")
        assert (
            Path(options.root or context.cwd)
            .resolve()
            .is_relative_to(world.workspace.resolve())
        )
        ours = values_of(argv(CODEX, turn_of(options, {})))
        command = argv(CODEX, turn_of(options, config_of(options)))
        values = values_of(command)
        callers = values[: len(values) - len(ours)]
        if options.config.get("web_search") == "cached":
            ours[ours.index('web_search="live"')] = 'web_search="cached"'
        assert values[len(callers) :] == ours
        for value in callers:
            ((name, scalar),) = tomllib.loads(value).items()
            assert name in NAMES
            assert isinstance(scalar, str | int)
            seen[name] += 1
        for word in command:
            assert "\0" not in word
            assert len(word.encode()) < thread_options.MAX_ARGUMENT_BYTES
        rest = [word for word in command if word not in values]
        assert not [word for word in rest if word.startswith("--dangerously")]
    assert seen["accepted"] > OBJECTS / 20
    assert seen["refused"] > OBJECTS / 20
    assert NAMES - {configs.EFFORT} <= set(seen)


def test_what_is_refused_asks_no_model_and_the_server_lives_on(
    world: World, model: Model
) -> None:
    world.repository.begin()
    server = model(say("It is fine."))
    context = Context.of(world.env, world.workspace)
    fuzz = Fuzz(SEED, surrogates=False)
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        refused = 0
        while refused < CALLS:
            arguments = fuzz.arguments()
            if accepted(context, without_empty(arguments)):
                continue
            refused += 1
            result = ask(wire, "codex", **arguments)
            assert result["isError"], arguments
            assert "What to do: " in text(result)
            assert "internal" not in text(result).partition(":")[0]
            assert len(text(result)) < 20_000
        for _ in range(CALLS // 10):
            arguments = {fuzz.key(): fuzz.value() for _ in range(3)}
            result = ask(wire, "codex-reply", **arguments)
            assert result["isError"]
        for size in (1_000_000, 4_000_000):
            for name in ("prompt", "developer-instructions", "model", "x" * size):
                result = ask(wire, "codex", **{"prompt": "A", name: "x" * size})
                assert result["isError"]
                assert len(text(result)) < 20_000
        assert server.requests == []
        assert text(ask(wire, "codex", prompt="A")) == "It is fine."
    assert len(server.requests) == 1
    assert_nothing_is_left(world)


def test_no_arguments_of_a_reply_are_an_error_of_another_kind() -> None:
    fuzz = Fuzz(SEED, surrogates=True)
    for _ in range(OBJECTS // 4):
        arguments = {fuzz.key(): fuzz.value() for _ in range(2)}
        arguments["prompt"] = fuzz.value_of("prompt")
        arguments[fuzz.random.choice(argument_names(CodexReplyCall))] = fuzz.value()
        # Any other error fails the test.
        with contextlib.suppress(CounselError):
            parse(CodexReplyCall, arguments)
