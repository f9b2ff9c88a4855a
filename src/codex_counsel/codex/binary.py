"""The installed Codex: where it is, which release, whether logged in, what it is configured for, whether it holds."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codex_counsel.codex import sandbox
from codex_counsel.codex.failures import last_sentence
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.path import search_path as search_path  # noqa: PLC0414  # others ask for it here
from codex_counsel.system.process_tree import boot_id
from codex_counsel.system.redact import mask
from codex_counsel.system.text import decode, one_line

OLDEST = (0, 148, 0)
PROBE_SECONDS = 10
CODE_MODE_HOST = "codex-code-mode-host"
_PARTS = ("codex-resources", "codex-path", "codex-package.json")


@dataclass(frozen=True)
class Codex:
    """A binary that answered `--version`. `needs` is what a sandboxed command must be able to read of it."""

    path: Path
    needs: tuple[Path, ...]
    version: str
    source: str

    def notices(self) -> list[str]:
        """What of its package is missing, though a run may get by without it."""
        host = self.path.resolve().parent / CODE_MODE_HOST
        if host.exists():
            return []
        return [f"{host} is missing: models that run their commands in code mode cannot run any; install all of Codex"]


@dataclass(frozen=True)
class Login:
    """`identity` tells accounts apart without naming them; `kind` is none, api_key, chatgpt, provider or keyring."""

    kind: str
    identity: str

    @property
    def present(self) -> bool:
        return self.kind != "none"


class ProbeCache:
    """Answers of the binary, kept on disk by the path, time and size of what they depend on."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def get(self, *key: str) -> Any:
        return self._all().get("\n".join(key))

    def put(self, value: Any, *key: str) -> None:
        entries = [*list(self._all().items())[-199:], ("\n".join(key), value)]
        with contextlib.suppress(OSError):  # a cache that cannot be written costs a probe, nothing else
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._file.parent, prefix=".probes-")
            with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  # a descriptor
                json.dump(dict(entries), file)
            Path(name).replace(self._file)

    def _all(self) -> dict[str, Any]:
        try:
            found = json.loads(self._file.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def find(setting: str | None, path: str, probes: ProbeCache) -> Codex:
    """The binary by setting, then `PATH`, then the bundled package; the native one behind a Node launcher."""
    candidates = (
        [("setting", setting)]
        if setting
        else [("PATH", shutil.which("codex", path=search_path(path))), ("package", _bundled())]
    )
    for source, found in candidates:
        if found:
            return _checked(_native(Path(found).expanduser()), source, probes)
    raise CounselError(Code.CODEX_NOT_FOUND, "There is no `codex` on PATH and CODEX_COUNSEL_CODEX_BIN is not set")


def is_missing(setting: str | None, path: str) -> bool:
    """Whether there is not even a file to try; asks nobody, so it is fast."""
    return not (setting or shutil.which("codex", path=search_path(path)) or _bundled())


def _bundled() -> str | None:
    spec = importlib.util.find_spec("codex_cli_bin")
    path = Path(spec.origin).parent / "bin" / "codex" if spec and spec.origin else None
    return str(path) if path and path.exists() else None


def _native(path: Path) -> Path:
    """Npm's `codex` is a Node script: 58 ms slower, and a SIGKILL of it leaves Codex running."""
    real = path.resolve()
    if real.name != "codex.js":
        return real
    package = real.parent.parent
    homes = (package / "node_modules/@openai", package.parent)
    found = [file for home in homes for file in sorted(home.glob("codex-*/vendor/*/bin/codex"))]
    return next((file for file in found if os.access(file, os.X_OK)), real)


def _checked(path: Path, source: str, probes: ProbeCache) -> Codex:
    if not path.is_file() or not os.access(path, os.X_OK):
        raise CounselError(Code.CODEX_NOT_FOUND, f"{path} ({source}) is not an executable file")
    key = ("version", _stamp(path))
    version = probes.get(*key)
    if not version:
        version = _ask_version(path)
        probes.put(version, *key)
    if _numbers(version) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise CounselError(Code.CODEX_TOO_OLD, f"Codex {version} at {path} is older than {oldest}")
    return Codex(path, _needs(path.resolve()), version, source)


def _ask_version(path: Path) -> str:
    answer = probe([str(path), "--version"])
    found = re.search(r"^codex\S* (\d+\.\d+\.\d+\S*)", answer.out, re.MULTILINE)
    if not found:
        said = one_line(answer.out or answer.err, 80) or "nothing"
        why = "did not answer" if answer.code is None else f"answered {said!r}"
        raise CounselError(Code.CODEX_NOT_FOUND, f"{path} {why} when asked for --version, so it is not a working Codex")
    return found[1]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _needs(path: Path) -> tuple[Path, ...]:
    """The binary and the parts of its package by name: the directory they lie in may be a home, or hold anything."""
    homes = (path.parent, path.parent.parent) if path.parent.name == "bin" else (path.parent,)
    parts = [path.parent / CODE_MODE_HOST, *(home / name for home in homes for name in _PARTS)]
    return (path, *(part for part in parts if part.exists() and part.resolve() == part))


def _stamp(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError:
        return f"{path}:none"
    return f"{path}:{stat.st_mtime_ns}:{stat.st_size}"


@dataclass(frozen=True)
class Answer:
    """What a probe printed; `code` is None when it had to be ended."""

    code: int | None
    out: str
    err: str


def probe(argv: list[str], cwd: Path | None = None, env: Mapping[str, str] | None = None, given: bytes = b"") -> Answer:
    """Run a short command of Codex to its end, at most `PROBE_SECONDS`, its whole process group ended after that."""
    try:
        child = subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )
    except OSError as error:
        return Answer(127, "", str(error))
    with child:
        try:
            out, err = child.communicate(given, timeout=PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            return Answer(None, "", "no answer")
    return Answer(child.returncode, decode(out), decode(err))


def configuration(codex_home: Path, profile: str | None) -> dict[str, Any]:
    """What the user's config.toml and profile say; broken or missing files say nothing (Codex itself will complain)."""
    merged: dict[str, Any] = {}
    for name in ("config.toml", f"{profile}.config.toml" if profile else ""):
        with contextlib.suppress(OSError, ValueError):
            merged |= tomllib.loads((codex_home / name).read_text("utf-8")) if name else {}
    return merged


def login(codex: Codex, codex_home: Path, env: Mapping[str, str], config: Mapping[str, Any]) -> Login:
    """Which credentials a run would use. Proves presence, not validity: only a request to the model does that."""
    provider = str(config.get("model_provider") or "openai")
    table = _provider_table(provider, config)
    if provider != "openai" and not table.get("requires_openai_auth"):
        secret = f"{table.get('base_url')} {env.get(str(table.get('env_key')), '')}"
        return Login("provider", _identity(provider, secret))
    if env.get("CODEX_API_KEY"):
        return Login("api_key", _identity("openai", env["CODEX_API_KEY"]))
    stored = _stored_login(codex_home)
    if stored:
        return stored
    answer = probe([str(codex.path), "login", "status"], env=env)
    known = answer.code == 0 and "Not logged in" not in answer.err
    return Login("keyring", _identity("openai", str(codex_home))) if known else Login("none", _identity("openai", ""))


def _provider_table(provider: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
    tables = config.get("model_providers")
    table = tables.get(provider) if isinstance(tables, dict) else None
    return table if isinstance(table, dict) else {}


def _stored_login(codex_home: Path) -> Login | None:
    try:
        auth = json.loads((codex_home / "auth.json").read_text("utf-8"))
        tokens = auth.get("tokens") or {}
        if tokens.get("access_token") or tokens.get("account_id"):
            return Login("chatgpt", _identity("chatgpt", str(tokens.get("account_id") or codex_home)))
        return Login("api_key", _identity("openai", auth["OPENAI_API_KEY"])) if auth.get("OPENAI_API_KEY") else None
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def _identity(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:16]


def home_of(env: Mapping[str, str]) -> Path:
    """Codex's home in an environment. Codex makes the default one itself, but insists on one that was named."""
    return Path(env.get("CODEX_HOME") or Path(env.get("HOME") or Path.home()) / ".codex").absolute()


def mcp_servers(
    codex: Codex, run: Mapping[str, str], cwd: Path, profile: str | None, probes: ProbeCache
) -> tuple[str, ...]:
    """Names of the MCP servers a run would start, to be switched off one by one: tables of `-c` merge."""
    home = home_of(run)
    files = [home / "config.toml", Path("/etc/codex/config.toml"), Path("/etc/codex/managed_config.toml")]
    stamps = [_stamp(file) for file in [codex.path, *files, *([home / f"{profile}.config.toml"] if profile else [])]]
    cached = probes.get("mcp", *stamps)
    if cached is None:
        cached = _ask_mcp(codex, run, cwd, profile)
        probes.put(cached, "mcp", *stamps)
    return tuple(cached)


def untrusted(cwd: Path) -> str:
    """The pin that keeps a repository's own Codex configuration out, also where the user trusts the repository.

    Codex judges each directory from the repository's top down to `cwd` by itself, so all of them are named.
    """
    return f"projects={sandbox.toml({str(path): {'trust_level': 'untrusted'} for path in (cwd, *cwd.parents)})}"


def _ask_mcp(codex: Codex, run: Mapping[str, str], cwd: Path, profile: str | None) -> list[str]:
    chosen = ["-p", profile] if profile else []
    answer = probe([str(codex.path), *chosen, "-c", untrusted(cwd), "mcp", "list", "--json"], cwd, run)
    if answer.code != 0:
        raise CounselError(Code.CODEX_CONFIG_INVALID, _cause(answer.err) or "codex mcp list failed")
    return [str(server["name"]) for server in json.loads(answer.out)]


def _cause(stderr: str) -> str:
    """The reason below `Caused by:`, which a general sentence precedes."""
    _, _, cause = stderr.partition("Caused by:")
    return one_line(mask(cause.strip().removeprefix("0: ") or last_sentence(stderr))[0], 400)


def sandbox_problem(codex: Codex, run: Mapping[str, str], probes: ProbeCache) -> str | None:
    """None when this binary's sandbox starts and bounds reads on this machine since it booted; else the reason.

    The user's configuration can break it, so it is asked again when that has changed.
    """
    key = ("sandbox", _stamp(codex.path), boot_id(), _stamp(home_of(run) / "config.toml"))
    cached = probes.get(*key)
    if cached is None:
        cached = _try_sandbox(codex, run)
        if not cached:
            probes.put(cached, *key)
    return cached or None


def _try_sandbox(codex: Codex, run: Mapping[str, str]) -> str:
    """A canary outside the workspace must stay unreadable, one inside must be readable but not writable."""
    with tempfile.TemporaryDirectory(prefix="codex-counsel-probe-") as made:
        base = Path(made).resolve()
        inside, outside = base / "workspace", base / "outside"
        for directory in (inside, outside):
            directory.mkdir()
            (directory / "canary").write_text("canary", "ascii")
        boundary = sandbox.Boundary(inside, readable=codex.needs)
        config = [part for value in sandbox.overrides(boundary, sandbox.fresh_name()) for part in ("-c", value)]
        test = "cat canary && ! cat ../outside/canary && ! touch canary2 && echo; echo probed"
        argv = [str(codex.path), "sandbox", *config, "--", "/bin/sh", "-c", test]
        answer = probe(argv, inside, {**run, "TMPDIR": str(base)})
    if answer.out.split() == ["canary", "probed"]:
        return ""
    if "canarycanary" in answer.out.replace("\n", "") or (answer.code == 0 and "probed" in answer.out):
        return "the sandbox of this Codex does not bound what a command reads or writes"
    return one_line(mask(answer.err or answer.out)[0] or "no answer", 300)


def models(codex: Codex, run: Mapping[str, str]) -> list[dict[str, Any]]:
    """The listed models of the installed release, default first, each with its efforts."""
    answer = probe([str(codex.path), "debug", "models", "--bundled"], env=run)
    try:
        found = json.loads(answer.out)["models"]
    except (ValueError, KeyError, TypeError):
        raise CounselError(Code.CODEX_CONFIG_INVALID, one_line(last_sentence(answer.err) or answer.out, 300)) from None
    listed = sorted((m for m in found if m.get("visibility") == "list"), key=lambda m: m.get("priority", 99))
    return [_model(entry, default=index == 0) for index, entry in enumerate(listed)]


def _model(entry: Mapping[str, Any], *, default: bool) -> dict[str, Any]:
    efforts = [level.get("effort") for level in entry.get("supported_reasoning_levels") or ()]
    shown = {"model": entry.get("slug"), "efforts": efforts, "default_effort": entry.get("default_reasoning_level")}
    return {**shown, "context_window": entry.get("context_window"), **({"default": True} if default else {})}


def added(codex: Codex, run: Mapping[str, str], cwd: Path, config: tuple[str, ...]) -> list[dict[str, Any]]:
    """What Codex puts before our prompt, one row per part: its size and how it begins. No model call."""
    overrides = [part for value in config for part in ("-c", value)]
    answer = probe([str(codex.path), "debug", "prompt-input", *overrides, "(prompt)"], cwd, run)
    try:
        parts = [part for message in json.loads(answer.out) for part in message.get("content", ())]
    except (ValueError, TypeError, AttributeError):
        raise CounselError(Code.CODEX_CONFIG_INVALID, one_line(last_sentence(answer.err) or answer.out, 300)) from None
    texts = [str(part.get("text", "")) for part in parts]
    return [{"bytes": len(t.encode()), "begins": one_line(t, 80)} for t in texts if t != "(prompt)"]


def rate_limits(codex: Codex, run: Mapping[str, str], overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """The account's live quota, read without a model call; raises `CounselError` where Codex cannot tell."""
    messages = [
        {"id": 0, "method": "initialize", "params": {"clientInfo": {"name": "codex-counsel", "version": "0"}}},
        {"method": "initialized"},
        {"id": 1, "method": "account/rateLimits/read"},
    ]
    given = "".join(json.dumps(message) + "\n" for message in messages).encode()
    config = [
        part for value in (*overrides, "analytics.enabled=false", "features.plugins=false") for part in ("-c", value)
    ]
    answer = _converse([str(codex.path), "app-server", *config], given, run)
    if "error" in answer:
        raise CounselError(Code.UPSTREAM_ERROR, one_line(str(answer["error"].get("message")), 300))
    limits = answer.get("result", {}).get("rateLimits") or {}
    return {name: limits[name] for name in ("primary", "secondary", "credits", "planType") if limits.get(name)}


def _converse(argv: list[str], given: bytes, env: Mapping[str, str]) -> dict[str, Any]:
    """One JSON-RPC question; stdin stays open until the answer with id 1 came."""
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, process_group=0, bufsize=0
        )
        with child, _ended(child):
            assert child.stdin  # noqa: S101  # a pipe
            assert child.stdout  # noqa: S101  # a pipe
            with contextlib.suppress(BrokenPipeError):  # it ended already, and will be heard to say nothing
                child.stdin.write(given)
            return _answer(child.stdout.fileno())


@contextlib.contextmanager
def _ended(child: subprocess.Popen[bytes]) -> Any:
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def _answer(descriptor: int) -> dict[str, Any]:
    import select
    import time

    deadline, data = time.monotonic() + PROBE_SECONDS, b""
    while (left := deadline - time.monotonic()) > 0 and select.select([descriptor], [], [], left)[0]:
        chunk = os.read(descriptor, 65536)
        data += chunk
        for line in data.splitlines():
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if message.get("id") == 1:
                    return dict(message)
        if not chunk:
            break
    raise CounselError(Code.UPSTREAM_ERROR, "Codex did not tell the account's limits in time")
