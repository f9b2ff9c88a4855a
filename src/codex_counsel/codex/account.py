"""The account that a run would use: whether Codex is logged in, and what is left of the account's quota."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.codex import app_server
from codex_counsel.codex.binary import Codex
from codex_counsel.codex.probe import PROBE_SECONDS, run_probe
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.files import read_json_or_none
from codex_counsel.system.json_values import Json, JsonObject
from codex_counsel.system.text import one_line


@dataclass(frozen=True)
class Login:
    """Which credentials a run would use.

    `kind` is none, api_key, chatgpt, provider (one of the user's own) or keyring.
    `identity` differs between accounts and does not reveal them: 16 hexadecimal digits
    of a hash. `missing_variable` is the one that the provider reads its key from, where
    it is not set.
    """

    kind: str
    identity: str
    missing_variable: str | None = None

    @property
    def present(self) -> bool:
        """Whether there are any credentials."""
        return self.kind != "none"


def login(
    codex: Codex,
    codex_home: Path,
    env: Mapping[str, str],
    config: Mapping[str, Json],
) -> Login:
    """Find the credentials in the order in which Codex does. `config` is the user's configuration of Codex.

    Proves that credentials are there, not that they are valid: only a request to the
    model does that.
    """
    provider = str(config.get("model_provider") or "openai")
    table = _provider_table(provider, config)
    has_own_key = provider != "openai" and not table.get("requires_openai_auth")
    if has_own_key:
        return _provider_login(provider, table, codex_home, env)

    # `codex exec` does not read OPENAI_API_KEY.
    api_key = env.get("CODEX_API_KEY")
    if api_key:
        return Login("api_key", _identity("openai", api_key))

    stored = _stored_login(codex_home)
    if stored:
        return stored

    # Codex can keep its credentials in the system's keyring; only Codex itself can say
    # that they are there. It answers on stderr.
    status = run_probe([str(codex.path), "login", "status"], env=env)
    logged_in = status.returncode == 0 and "Not logged in" not in status.stderr
    if logged_in:
        return Login("keyring", _identity("openai", str(codex_home)))
    return Login("none", _identity("openai", ""))


def _provider_table(provider: str, config: Mapping[str, Json]) -> Mapping[str, Json]:
    tables = config.get("model_providers")
    if not isinstance(tables, dict):
        return {}
    table = tables.get(provider)
    if not isinstance(table, dict):
        return {}
    return table


def _provider_login(
    provider: str,
    table: Mapping[str, Json],
    codex_home: Path,
    env: Mapping[str, str],
) -> Login:
    """The user's own provider, whose key Codex takes from a variable if the provider's table names one."""
    variable = str(table.get("env_key") or "")
    key = env.get(variable, "")
    identity = _identity(provider, f"{table.get('base_url')} {key}")
    if variable and not key and not _dotenv_sets(codex_home / ".env", variable):
        return Login("none", identity, missing_variable=variable)
    return Login("provider", identity)


def _dotenv_sets(file: Path, variable: str) -> bool:
    """Whether the file of variables that Codex reads itself has a line for this one."""
    try:
        text = file.read_text("utf-8", "replace")
    except OSError:
        return False
    line = rf"^\s*(?:export\s+)?{re.escape(variable)}\s*="
    return re.search(line, text, re.MULTILINE) is not None


def _stored_login(codex_home: Path) -> Login | None:
    """What `codex login` left in auth.json; None when it is missing, damaged or holds no credentials."""
    auth = read_json_or_none(codex_home / "auth.json")
    if not isinstance(auth, dict):
        return None
    tokens = auth.get("tokens") or {}
    if not isinstance(tokens, dict):
        return None
    if tokens.get("access_token") or tokens.get("account_id"):
        account = tokens.get("account_id") or codex_home
        return Login("chatgpt", _identity("chatgpt", str(account)))
    api_key = auth.get("OPENAI_API_KEY")
    if api_key and isinstance(api_key, str):
        return Login("api_key", _identity("openai", api_key))
    return None


def _identity(*parts: str) -> str:
    text = "\0".join(parts)
    digest = hashlib.sha256(text.encode("utf-8", "replace"))
    return digest.hexdigest()[:16]


def rate_limits(
    codex: Codex, env: Mapping[str, str], *, seconds: float = PROBE_SECONDS
) -> JsonObject:
    """The account's quota as Codex reports it within so many seconds; no model is asked (seen on 0.140 to 0.169).

    Has those of the keys primary, secondary, credits and planType that apply to the
    account. Raises `upstream_error` when Codex does not report it: only a ChatGPT
    account has a quota.
    """
    with app_server.connect(codex, env, seconds=seconds) as server:
        server.request("account/rateLimits/read")
        answer = server.answer()
    if answer is None:
        raise CounselError(
            Code.UPSTREAM_ERROR, "Codex did not report the account's limits"
        )
    result = answer.get("result")
    if not isinstance(result, dict):
        error = answer.get("error")
        message = error.get("message") if isinstance(error, dict) else error
        raise CounselError(Code.UPSTREAM_ERROR, one_line(str(message), 300))
    limits = result.get("rateLimits")
    if not isinstance(limits, dict):
        return {}
    names = ("primary", "secondary", "credits", "planType")
    return {name: limits[name] for name in names if limits.get(name)}
