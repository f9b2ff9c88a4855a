"""Recognises command lines that start `codex mcp-server`, a command that Codex removed, and writes its successor there.

Configurations name it directly, through a package runner (`npx @openai/codex`), a
shell, `env`, WSL, or a program that takes a command after `--`. The older names of the
command are `codex mcp` and `codex mcp serve`. Nothing is run, and nothing is looked up.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

SUCCESSOR = "codex-mcp-server"
"""Our console script that lists the same tools."""
REMOVED_IN = "0.154"
MAX_WORDS = 1000
MAX_SCRIPT = 2_000
"""Characters of a shell script that are searched."""
MAX_WRAPPERS = 5
"""Programs around the command, each of which starts the next."""

ACCEPTED_OPTIONS = {
    *("-c", "--config", "--enable", "--disable", "-m", "--model", "-p", "--profile"),
    *("-s", "--sandbox", "-a", "--ask-for-approval"),
}
"""Options of `codex` that the successor has too. Each has a value."""
OPTIONS_WITH_VALUE = {
    *ACCEPTED_OPTIONS,
    *("-C", "--cd", "--add-dir", "-i", "--image", "--local-provider"),
    *("--remote", "--remote-auth-token-env"),
}
"""Options of `codex` (0.153.4) whose value is the next word."""
REFUSED_OPTIONS = {
    "--strict-config": "leave it out: what is read of config.toml is up to CODEX_COUNSEL_ISOLATION",
    "--full-auto": "write -s workspace-write",
    "--yolo": "every run is sandboxed; write -s workspace-write",
    "--dangerously-bypass-approvals-and-sandbox": "every run is sandboxed; write -s workspace-write",
    "--search": "write -c web_search=live",
    "--oss": "set model_provider in Codex's config.toml",
    "--local-provider": "set model_provider in Codex's config.toml",
    "--cd": "name the directory in the argument cwd of a call",
    "-C": "name the directory in the argument cwd of a call",
    "--add-dir": "a call works in one directory, its argument cwd",
}
"""Options of `codex` that the successor has not, and what to do instead."""
WINDOWS_SUFFIXES = (".exe", ".cmd", ".bat", ".ps1")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=")
_DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")
"""Claude Code's spelling of a variable with a default."""
_PACKAGE = re.compile(r"@openai/codex(?:@(.+))?")


@dataclass(frozen=True)
class RemovedCommand:
    """A command line that starts the server, taken apart.

    `arguments` are the words of Codex. `prefix` are the words before the program that a
    successor needs too. `script` is the shell script around the command, or empty.
    `variables` are the names of those that the command line sets. `release` is what a
    package runner was told to take: a version, a tag, `latest`; empty without one.
    """

    subcommand: str
    arguments: tuple[str, ...]
    prefix: tuple[str, ...] = ()
    script: str = ""
    variables: tuple[str, ...] = ()
    release: str = ""

    def succeeded_by(self, program: Sequence[str]) -> list[str] | None:
        """The command line with `program` in the place of Codex.

        None where only a person can write it: the script sets variables, names the
        command in another way than by these words, or more than once.
        """
        if not self.script:
            return [*self.prefix, *program, *self.arguments]
        words = re.compile(rf"(?<![\w./@\\-])codex {self.subcommand}(?![\w-])")
        if self.variables or len(words.findall(self.script)) != 1:
            return None
        successor = shlex.join(program)
        argv = [*self.prefix, words.sub(lambda _: successor, self.script)]
        return None if removed_command(argv) else argv

    def options(self) -> Iterator[tuple[str, str]]:
        """The options of Codex, each with its value, or an empty text."""
        rest = list(self.arguments)
        while rest:
            word, rest = rest[0], rest[1:]
            if not _is_option(word):
                continue
            option, _, value = word.partition("=")
            if not word.startswith("--"):
                option, value = word[:2], word[2:].removeprefix("=")
            if word in OPTIONS_WITH_VALUE and rest:
                value, rest = rest[0], rest[1:]
            yield option, value


def removed_command(argv: Sequence[str]) -> RemovedCommand | None:
    """The removed command that `argv` starts, or None."""
    return _in(list(argv[:MAX_WORDS]), MAX_WRAPPERS)


def _in(words: list[str], depth: int) -> RemovedCommand | None:
    if not words or depth == 0:
        return None
    name = _program(words[0])
    stem = name.removesuffix(_windows_suffix(name))
    if stem in ("codex", "codex.js"):
        command = _of_codex(words[1:])
    elif stem in _WRAPPERS:
        command = _WRAPPERS[stem](words, depth - 1)
    else:
        command = _after_separator(words, depth - 1)
    if command and (stem != name or stem == "cmd") and not _is_in_wsl(command):
        return replace(command, prefix=("wsl", *command.prefix))
    return command


def _is_in_wsl(command: RemovedCommand) -> bool:
    """Our server runs in WSL where the client is a program of Windows."""
    return command.prefix[:1] in (("wsl",), ("wsl.exe",))


def _program(word: str) -> str:
    """The file name of a program in lower case, with the default of a variable for the variable."""
    expanded = _DEFAULT.sub(r"\1", word)
    return re.split(r"[/\\]", expanded)[-1].lower()


def _windows_suffix(name: str) -> str:
    for suffix in WINDOWS_SUFFIXES:
        if name.endswith(suffix):
            return suffix
    return ""


def _of_codex(arguments: list[str], release: str = "") -> RemovedCommand | None:
    before, rest = _split_at_word(arguments)
    words, after = rest[:1], rest[1:]
    if words == ["mcp"] and after[:1] == ["serve"]:
        words, after = rest[:2], rest[2:]
    elif words == ["mcp"] and _split_at_word(after)[1]:
        # A command such as `codex mcp list`.
        return None
    if words[:1] not in (["mcp"], ["mcp-server"]):
        return None
    # The successor ignores the name of the command where it stands first.
    kept = [*before, *after] if before else [*words, *after]
    return RemovedCommand(" ".join(words), tuple(kept), release=release)


def _split_at_word(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Codex's options before the first word that is none, and what begins with that word."""
    index = 0
    while index < len(arguments) and _is_option(arguments[index]):
        index += 2 if arguments[index] in OPTIONS_WITH_VALUE else 1
    return arguments[:index], arguments[index:]


def _is_option(word: str) -> bool:
    return word.startswith("-") and word != "--"


# --- programs that start the command


def _in_environment(words: list[str], depth: int) -> RemovedCommand | None:
    """`env -u NAME NAME=value ... COMMAND`."""
    names: list[str] = []
    rest = words[1:]
    while rest:
        assignment = _ASSIGNMENT.match(rest[0])
        if assignment:
            names.append(assignment[1])
            rest = rest[1:]
        elif rest[0] in ("-S", "--split-string") and depth > 0:
            words = ["env", *_shell_words(" ".join(rest[1:2])), *rest[2:]]
            command = _in_environment(words, depth - 1)
            return command and _with_variables(command, names)
        elif rest[0] in ("-u", "--unset", "-C", "--chdir"):
            rest = rest[2:]
        elif rest[0].startswith("-"):
            rest = rest[1:]
        else:
            break
    command = _in(rest, depth)
    return command and _with_variables(command, names)


def _with_variables(command: RemovedCommand, names: list[str]) -> RemovedCommand:
    return replace(command, variables=(*names, *command.variables))


def _in_prefix(words: list[str], depth: int) -> RemovedCommand | None:
    """`exec COMMAND`, `nohup COMMAND`."""
    return _in(words[1:], depth)


def _in_shell(words: list[str], depth: int) -> RemovedCommand | None:
    """`sh -c SCRIPT`, `bash -lc SCRIPT`."""
    for index, word in enumerate(words[1:-1], 1):
        if not word.startswith("-"):
            return None
        if re.fullmatch(r"-[a-z]*c", word):
            script = words[index + 1]
            command = _in_script(script, depth)
            prefix = tuple(words[: index + 1])
            return command and replace(command, prefix=prefix, script=script)
    return None


def _in_script(script: str, depth: int) -> RemovedCommand | None:
    """The first of the script's simple commands that starts the server."""
    words: list[str] = []
    for word in [*_shell_words(script), ";"]:
        if word.strip("();<>|&"):
            words.append(word)
            continue
        # The number of a stream, as in `2>/dev/null`, is no argument.
        if word[0] in "<>" and words[-1:] in (["1"], ["2"]):
            words.pop()
        command = _in_environment(["env", *words], depth)
        if command:
            return command
        words = []
    return None


def _shell_words(script: str) -> list[str]:
    """The words and operators of a script; none for one that is too long or no script of a shell."""
    if len(script) > MAX_SCRIPT:
        return []
    lexer = shlex.shlex(script.replace("\n", ";"), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    # With comments, everything after the first `#` would be lost: there are no lines
    # any more.
    lexer.commenters = ""
    try:
        return list(lexer)
    except ValueError:
        return []


def _in_command_prompt(words: list[str], depth: int) -> RemovedCommand | None:
    """`cmd /c COMMAND`."""
    rest = words[1:]
    while rest and rest[0].startswith("/"):
        rest = rest[1:]
    return _in(rest, depth)


def _in_wsl(words: list[str], depth: int) -> RemovedCommand | None:
    """`wsl -d NAME -- COMMAND`. What stands before the command is kept."""
    index = 1
    while index < len(words) and words[index].startswith(("-", "~")):
        has_value = words[index] in ("-d", "--distribution", "-u", "--user", "--cd")
        index += 2 if has_value else 1
    command = _in(words[index:], depth)
    return command and replace(command, prefix=(*words[:index], *command.prefix))


def _in_package_runner(words: list[str], depth: int) -> RemovedCommand | None:
    """`npx -y @openai/codex@VERSION ...`, `pnpm dlx ...`, `npx -p @openai/codex codex ...`."""
    rest = words[1:]
    if _program(words[0]) in ("npm", "pnpm", "yarn", "bun"):
        if rest[:1] not in (["dlx"], ["exec"], ["x"]):
            return None
        rest = rest[1:]
    package = None
    while rest and rest[0].startswith("-"):
        option, _, value = rest[0].partition("=")
        if option in ("-p", "--package"):
            has_next = not value
            package = _PACKAGE.fullmatch(value or " ".join(rest[1:2]))
            rest = rest[2:] if has_next else rest[1:]
        else:
            rest = rest[1:]
    if not rest:
        return None
    named = _PACKAGE.fullmatch(rest[0])
    if named:
        return _of_codex(rest[1:], named[1] or "latest")
    if rest[0].startswith("@"):
        # A package of somebody else, whose last part may be `codex`.
        return None
    command = _in(rest, depth)
    if command and package:
        return replace(command, release=package[1] or "latest")
    return command


def _after_separator(words: list[str], depth: int) -> RemovedCommand | None:
    """`op run -- COMMAND`. What stands before the command is kept."""
    if "--" not in words:
        return None
    index = words.index("--") + 1
    command = _in(words[index:], depth)
    return command and replace(command, prefix=(*words[:index], *command.prefix))


_Wrapper = Callable[[list[str], int], RemovedCommand | None]
_WRAPPERS: dict[str, _Wrapper] = {
    **dict.fromkeys(("sh", "bash", "zsh", "dash", "ksh", "fish"), _in_shell),
    **dict.fromkeys(
        ("npx", "npm", "pnpm", "pnpx", "yarn", "bun", "bunx"), _in_package_runner
    ),
    **dict.fromkeys(
        ("exec", "command", "nohup", "node", "time", "caffeinate"), _in_prefix
    ),
    "env": _in_environment,
    "cmd": _in_command_prompt,
    "wsl": _in_wsl,
}
