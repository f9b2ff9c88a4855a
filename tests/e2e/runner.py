"""Runs a composite action as GitHub's runner does, on this machine.

The scripts are those of the action, started by `bash --noprofile --norc -eo pipefail`, with the files that a step
writes to (`GITHUB_OUTPUT` and others) read by the rules of the runner. Expressions are evaluated by a small evaluator,
which refuses what it does not know. Actions of others (`uses`) are stood in for: a cache is a directory of archives
made by the real `tar`, with the rules for keys; what is uploaded to code scanning must be valid SARIF.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import living

Value = str | bool | int | None


class UnknownExpressionError(Exception):
    """An expression that this evaluator does not know: a test must not guess what the runner would do."""


class InvalidFileError(Exception):
    """A line of a file of a step that the runner refuses."""


# --- expressions

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<name>[A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*)*)"
    r"|(?P<operator>==|!=|&&|\|\||!|\(|\))|(?P<other>\S))"
)


@dataclass
class Expression:
    """An expression of the runner. `contexts` are the values of `inputs`, `steps` and others, `status` of functions."""

    text: str
    contexts: Mapping[str, Any]
    status: Mapping[str, bool]

    def value(self) -> Value:
        self._tokens = list(self._scan())
        value = self._either()
        if self._tokens:
            raise UnknownExpressionError(self.text)
        return value

    def _scan(self) -> Iterator[tuple[str, str]]:
        for match in _TOKEN.finditer(self.text.strip()):
            kind = str(match.lastgroup)
            if kind == "other":
                raise UnknownExpressionError(self.text)
            yield kind, match[kind]

    def _take(self, *operators: str) -> str | None:
        if self._tokens and self._tokens[0][1] in operators:
            return self._tokens.pop(0)[1]
        return None

    def _either(self) -> Value:
        value = self._both()
        while self._take("||"):
            other = self._both()
            value = value or other
        return value

    def _both(self) -> Value:
        value = self._comparison()
        while self._take("&&"):
            other = self._comparison()
            value = value and other
        return value

    def _comparison(self) -> Value:
        value = self._unary()
        operator = self._take("==", "!=")
        if operator is None:
            return value
        is_equal = _folded(value) == _folded(self._unary())
        return is_equal == (operator == "==")

    def _unary(self) -> Value:
        if self._take("!"):
            return not self._unary()
        if self._take("("):
            value = self._either()
            self._close()
            return value
        if not self._tokens:
            raise UnknownExpressionError(self.text)
        kind, word = self._tokens.pop(0)
        if kind == "text":
            return word[1:-1].replace("''", "'")
        if kind == "operator":
            raise UnknownExpressionError(self.text)
        if self._take("("):
            self._close()
            return self._status(word)
        return self._of_context(word)

    def _close(self) -> None:
        if not self._take(")"):
            raise UnknownExpressionError(self.text)

    def _status(self, name: str) -> bool:
        if name not in self.status:
            raise UnknownExpressionError(f"{name}() in {self.text}")
        return self.status[name]

    def _of_context(self, path: str) -> Value:
        """A property that is not there is null, as for the runner; a context that is not there is refused."""
        first, *names = path.split(".")
        if first not in self.contexts:
            raise UnknownExpressionError(path)
        value: Any = self.contexts[first]
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, Mapping):
            raise UnknownExpressionError(path)
        return value  # type: ignore[no-any-return]


def _folded(value: Value) -> str:
    return as_text(value).lower()


def as_text(value: Value) -> str:
    """What the runner puts in place of an expression within a text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


# --- files of a step


def parse_file(text: str) -> dict[str, str]:
    """The names and values of GITHUB_OUTPUT or GITHUB_ENV: `name=value`, and `name<<END`, lines, `END`."""
    values: dict[str, str] = {}
    lines = iter(text.splitlines())
    for line in lines:
        if not line:
            continue
        equals, here = line.find("="), line.find("<<")
        if equals >= 0 and (here < 0 or equals < here):
            name, value = line[:equals], line[equals + 1 :]
        elif here >= 0:
            name, end = line[:here], line[here + 2 :]
            value = "\n".join(_until(lines, end))
        else:
            raise InvalidFileError(f"Invalid format {line!r}")
        if not name:
            raise InvalidFileError(f"Invalid format {line!r}: no name")
        values[name] = value
    return values


def _until(lines: Iterator[str], end: str) -> Iterator[str]:
    for line in lines:
        if line == end:
            return
        yield line
    raise InvalidFileError(f"Matching delimiter not found {end!r}")


# --- the machine


@dataclass
class StepResult:
    """What one step did. `env` is its environment, `inputs` the values of `with`."""

    name: str
    outcome: str
    outputs: dict[str, str] = field(default_factory=dict)
    stdout: str = ""
    stderr: str = ""
    env: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)


@dataclass
class JobResult:
    """What the job of an action did. `steps` are by name, in the order in which they ran."""

    steps: dict[str, StepResult]
    outputs: dict[str, str]
    summary: str

    @property
    def conclusion(self) -> str:
        outcomes = [step.outcome for step in self.steps.values()]
        for outcome in ("cancelled", "failure"):
            if outcome in outcomes:
                return outcome
        return "success"

    @property
    def log(self) -> str:
        """All that the steps printed."""
        return "\n".join(step.stdout + step.stderr for step in self.steps.values())


@dataclass
class Runner:
    """A machine of its own. `env` is that of the machine; `caches` outlives it, as the cache of a repository does.

    Each process of its job has the value `tracking`, by which it is found when the job ends.
    """

    folder: Path
    workspace: Path
    env: Mapping[str, str]
    caches: Path
    github: Mapping[str, Any]
    run_number: int = 1
    os: str = "Linux"
    environment: str = "github-hosted"
    tracking: str = field(default_factory=lambda: f"github_{uuid.uuid4()}")
    uploads: list[dict[str, str]] = field(default_factory=list)
    check_sarif: Callable[[Path], None] = lambda _path: None

    def __post_init__(self) -> None:
        for path in (self.temp, self.folder / "files", self.caches):
            path.mkdir(parents=True, exist_ok=True)

    @property
    def temp(self) -> Path:
        return self.folder / "_temp"

    def run(self, action: Path, **inputs: str) -> JobResult:
        """Run the composite action of this file with these inputs, `-` in their names written `_`."""
        job = Job(self, yaml.safe_load(action.read_text("utf-8")), inputs)
        return job.run()


@dataclass
class Job:
    """One run of an action on a runner."""

    runner: Runner
    action: Mapping[str, Any]
    given: Mapping[str, str]
    cancel_when: Callable[[], bool] | None = None
    is_cancelled: bool = False
    results: dict[str, StepResult] = field(default_factory=dict)
    ids: dict[str, StepResult] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)
    summary: str = ""

    def run(self) -> JobResult:
        assert self.action["runs"]["using"] == "composite"
        self.inputs = self._inputs()
        for step in self.action["runs"]["steps"]:
            result = self._step(step)
            assert result.name not in self.results
            self.results[result.name] = result
            if "id" in step:
                self.ids[step["id"]] = result
        outputs = {
            name: self._text(output["value"])
            for name, output in self.action["outputs"].items()
        }
        return JobResult(self.results, outputs, self.summary)

    def _inputs(self) -> dict[str, str]:
        given = {name.replace("_", "-"): value for name, value in self.given.items()}
        declared = self.action["inputs"]
        assert given.keys() <= declared.keys()
        for name, rule in declared.items():
            assert name in given or "default" in rule or rule.get("required"), name
        return {
            name: given.get(name, self._text(rule.get("default", ""), only="github"))
            for name, rule in declared.items()
        }

    # --- expressions

    def _contexts(self) -> dict[str, Any]:
        steps = {
            name: {"outputs": step.outputs, "outcome": step.outcome}
            for name, step in self.ids.items()
        }
        return {
            "inputs": getattr(self, "inputs", {}),
            "steps": steps,
            "github": self.runner.github,
            "runner": {"temp": str(self.runner.temp), "os": self.runner.os},
        }

    def _status(self) -> dict[str, bool]:
        has_failed = any(step.outcome == "failure" for step in self.results.values())
        return {
            "success": not has_failed and not self.is_cancelled,
            "failure": has_failed and not self.is_cancelled,
            "cancelled": self.is_cancelled,
            "always": True,
        }

    def _text(self, text: Any, only: str | None = None) -> str:
        """The text with the values of its expressions; `only` names the one context that it may use."""
        contexts = self._contexts()
        if only:
            contexts = {only: contexts[only]}

        def value(match: re.Match[str]) -> str:
            return as_text(Expression(match[1], contexts, {}).value())

        return re.sub(r"\$\{\{(.*?)\}\}", value, as_text(text))

    def _is_due(self, step: Mapping[str, Any]) -> bool:
        condition = str(step.get("if", "success()"))
        match = re.fullmatch(r"\$\{\{(.*)\}\}", condition.strip(), re.DOTALL)
        text = match[1] if match else condition
        # Without a function of the status, a condition means: if all went well so far.
        if not re.search(r"\b(success|failure|cancelled|always)\(\)", text):
            text = f"success() && ({text})"
        return bool(Expression(text, self._contexts(), self._status()).value())

    # --- steps

    def _step(self, step: Mapping[str, Any]) -> StepResult:
        name = step["name"]
        if not self._is_due(step):
            return StepResult(name, "skipped")
        if "uses" in step:
            return self._uses(name, step)
        assert step["shell"] == "bash", name
        assert "${{" not in step["run"], "text of an expression in a script is code"
        return self._script(name, step)

    def _uses(self, name: str, step: Mapping[str, Any]) -> StepResult:
        action, _, revision = step["uses"].partition("@")
        assert re.fullmatch("[0-9a-f]{40}", revision), f"{action} is not pinned"
        inputs = {key: self._text(value) for key, value in step["with"].items()}
        stand_in = STAND_INS[action]
        result = StepResult(name, "success", inputs=inputs)
        result.outcome = stand_in(self, inputs)
        return result

    def _script(self, name: str, step: Mapping[str, Any]) -> StepResult:
        files = self._files()
        env = {
            **self.runner.env,
            **self._variables(),
            **self.env,
            **{key: str(path) for key, path in files.items()},
        }
        if self.paths:
            env["PATH"] = os.pathsep.join([*self.paths, env["PATH"]])
        for key, value in step.get("env", {}).items():
            env[key] = self._text(value)
        where = self._text(step.get("working-directory", ""))
        script = self.runner.temp / f"script-{len(self.results)}.sh"
        script.write_text(step["run"], "utf-8")
        process = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.runner.workspace / where,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        stdout, stderr = self._wait(process)
        script.unlink()
        outcome = "success" if process.returncode == 0 else "failure"
        if self.is_cancelled:
            outcome = "cancelled"
        result = StepResult(name, outcome, {}, stdout, stderr, env)
        self._read_files(files, result)
        return result

    def _wait(self, process: subprocess.Popen[str]) -> tuple[str, str]:
        """What it printed. A cancelled job is ended as the runner does: SIGINT, SIGTERM, then what it tracks."""
        while True:
            try:
                return process.communicate(timeout=0.2)
            except subprocess.TimeoutExpired:
                pass
            if self.cancel_when and not self.is_cancelled and self.cancel_when():
                self.is_cancelled = True
                for number in (signal.SIGINT, signal.SIGTERM):
                    process.send_signal(number)
                    # The runner waits 7.5 and 2.5 seconds.
                    time.sleep(1)
                kill_tracked(self.runner.tracking)

    def _files(self) -> dict[str, Path]:
        names = ("GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STEP_SUMMARY")
        files = {name: self.runner.folder / "files" / name for name in names}
        for path in files.values():
            path.write_text("")
        return files

    def _read_files(self, files: Mapping[str, Path], result: StepResult) -> None:
        try:
            result.outputs = parse_file(files["GITHUB_OUTPUT"].read_text("utf-8"))
            self.env |= parse_file(files["GITHUB_ENV"].read_text("utf-8"))
        except InvalidFileError as error:
            result.outcome = "failure"
            result.stderr += f"\n::error::{error}"
        self.paths[:0] = files["GITHUB_PATH"].read_text("utf-8").splitlines()
        summary = files["GITHUB_STEP_SUMMARY"].read_text("utf-8")
        assert len(summary.encode()) <= 1024 * 1024
        self.summary += summary

    def _variables(self) -> dict[str, str]:
        github = self.runner.github
        return {
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_WORKSPACE": str(self.runner.workspace),
            "GITHUB_REPOSITORY": github["repository"],
            "GITHUB_SERVER_URL": github["server_url"],
            "GITHUB_API_URL": f"{github['server_url']}/api/v3",
            "GITHUB_GRAPHQL_URL": f"{github['server_url']}/api/graphql",
            "GITHUB_REF": github["ref"],
            "GITHUB_BASE_REF": github.get("base_ref", ""),
            "GITHUB_HEAD_REF": github.get("head_ref", ""),
            "GITHUB_EVENT_NAME": github["event_name"],
            "GITHUB_RUN_ID": str(github["run_id"]),
            "GITHUB_SHA": github["sha"],
            "RUNNER_TEMP": str(self.runner.temp),
            "RUNNER_OS": self.runner.os,
            "RUNNER_ENVIRONMENT": self.runner.environment,
            "RUNNER_TRACKING_ID": self.runner.tracking,
        }


def kill_tracked(tracking: str) -> None:
    """End the processes of a job that still run, as the runner does after it."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
            if f"RUNNER_TRACKING_ID={tracking}".encode() in variables:
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:
            continue


def left_over(folder: Path) -> list[str]:
    """The command lines of processes that have the directory of a test in their environment or arguments."""
    return living(str(folder))


# --- stand-ins for the actions of others


def _set_up_uv(job: Job, inputs: Mapping[str, str]) -> str:
    """The uv of this machine, on PATH."""
    assert Path(inputs["working-directory"]) == job.runner.temp
    assert inputs["enable-cache"] == "false"
    program = shutil.which("uv")
    assert program
    tools = job.runner.folder / "uv"
    shutil.rmtree(tools, ignore_errors=True)
    tools.mkdir()
    (tools / "uv").symlink_to(os.path.realpath(program))
    job.paths.insert(0, str(tools))
    return "success"


def _restore(job: Job, inputs: Mapping[str, str]) -> str:
    """The archive of this very key, else the newest whose key begins with one of `restore-keys`."""
    archives = sorted(job.runner.caches.glob("*.tar"), key=os.path.getmtime)
    exact = [path for path in archives if path.stem == inputs["key"]]
    prefixes = tuple(inputs.get("restore-keys", "").split())
    begun = [path for path in archives if prefixes and path.stem.startswith(prefixes)]
    chosen = exact or begun
    if chosen:
        subprocess.run(["tar", "-xPf", str(chosen[-1])], check=True)
    return "success"


def _save(job: Job, inputs: Mapping[str, str]) -> str:
    archive = job.runner.caches / f"{inputs['key']}.tar"
    assert not archive.exists(), "an entry of a cache cannot be changed"
    paths = [path for path in inputs["path"].split("\n") if path]
    existing = [path for path in paths if Path(path).exists()]
    subprocess.run(["tar", "-cPf", str(archive), *existing], check=True)
    return "success"


def _upload_sarif(job: Job, inputs: Mapping[str, str]) -> str:
    assert re.fullmatch("[0-9a-f]{40}", inputs["sha"])
    assert inputs["ref"].startswith("refs/pull/")
    job.runner.check_sarif(Path(inputs["sarif_file"]))
    job.runner.uploads.append(dict(inputs))
    return "success"


STAND_INS: dict[str, Callable[[Job, Mapping[str, str]], str]] = {
    "astral-sh/setup-uv": _set_up_uv,
    "actions/cache/restore": _restore,
    "actions/cache/save": _save,
    "github/codeql-action/upload-sarif": _upload_sarif,
}
