"""The configuration that makes Codex talk to a model service on loopback."""

from __future__ import annotations

import json
from typing import Any

NAME = "loopback"


def table(
    base_url: str, *, env_key: str | None = None, retries: int = 0, **keys: Any
) -> dict[str, Any]:
    """The keys of a `[model_providers.NAME]` table; `keys` adds to them or overrides them."""
    return {
        "name": NAME,
        "base_url": base_url,
        "wire_api": "responses",
        "supports_websockets": False,
        "request_max_retries": retries,
        "stream_max_retries": retries,
        **({"env_key": env_key} if env_key else {}),
        **keys,
    }


def config_toml(provider: dict[str, Any], model: str | None = None) -> str:
    """Text for `$CODEX_HOME/config.toml`."""
    top = {"model_provider": NAME, **({"model": model} if model else {})}
    return f"{_assignments(top)}\n[model_providers.{NAME}]\n{_assignments(provider)}"


def _assignments(table: dict[str, Any]) -> str:
    """TOML for flat values: JSON spells strings, numbers and booleans the same way."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
