"""The ChatGPT side of a login: the files and answers that let Codex believe it has an account. Nothing is signed."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codex_counsel.loopback.request import JSON

AUTH_CLAIM = "https://api.openai.com/auth"


@dataclass(frozen=True)
class Window:
    """A usage window of a plan."""

    used_percent: int
    minutes: int
    resets_at: int

    def wire(self) -> JSON:
        return {
            "used_percent": self.used_percent,
            "limit_window_seconds": self.minutes * 60,
            "reset_after_seconds": 60,
            "reset_at": self.resets_at,
        }


@dataclass(frozen=True)
class Account:
    """The account behind `auth_json`, as `account/read` and `account/rateLimits/read` of the app server report it.

    `refresh_code` refuses to renew the login, with `refresh_status`:
    `refresh_token_expired`, `refresh_token_reused`.
    """

    plan: str = "plus"
    email: str = "someone@example.com"
    id: str = "00000000-0000-4000-8000-000000000001"
    primary: Window | None = Window(12, 300, 1_900_000_000)
    secondary: Window | None = Window(34, 10_080, 1_900_500_000)
    refresh_code: str | None = None
    refresh_status: int = 401

    def auth_json(self) -> str:
        """Text for `$CODEX_HOME/auth.json`, as if `codex login` had been done just now."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        tokens = {**self._tokens(), "account_id": self.id}
        return json.dumps(
            {"OPENAI_API_KEY": None, "tokens": tokens, "last_refresh": now}
        )

    def resource(self, path: str) -> JSON | None:
        """What the back end has at this path; None where it has nothing."""
        pages = {
            "wham/usage": self._usage,
            "wham/accounts/check": self._check,
            "wham/settings/user": dict,
        }
        page = pages.get(path.removeprefix("/backend-api/"))
        return page() if page else None

    def refresh(self) -> tuple[int, JSON]:
        """The answer of the token endpoint."""
        if self.refresh_code is None:
            return 200, self._tokens()
        return self.refresh_status, {
            "error": {"code": self.refresh_code, "message": self.refresh_code}
        }

    def _tokens(self) -> JSON:
        return {
            "id_token": self._token(),
            "access_token": self._token(),
            "refresh_token": "loopback",
        }

    def _token(self) -> str:
        claims = {
            "chatgpt_plan_type": self.plan,
            "chatgpt_user_id": "user-loopback",
            "chatgpt_account_id": self.id,
        }
        now = int(time.time())
        payload = {
            "email": self.email,
            "exp": now + 864_000,
            "iat": now,
            AUTH_CLAIM: claims,
        }
        return ".".join(
            [_encoded({"alg": "none", "typ": "JWT"}), _encoded(payload), "unsigned"]
        )

    def _usage(self) -> JSON:
        windows = {
            "primary_window": self.primary and self.primary.wire(),
            "secondary_window": self.secondary and self.secondary.wire(),
        }
        full = any(
            window.used_percent >= 100
            for window in (self.primary, self.secondary)
            if window
        )
        return {
            "plan_type": self.plan,
            "rate_limit": {"allowed": not full, "limit_reached": full, **windows},
            "credits": {"has_credits": False, "unlimited": False, "balance": "0"},
        }

    def _check(self) -> JSON:
        """Without an HTTPS origin and a region `account/read` fails; this name leads nowhere."""
        routing = {
            "workspace_backend_origin": "https://loopback.invalid",
            "account_routing_override": "us",
        }
        account = {
            "id": self.id,
            "plan_type": self.plan,
            "structure": "personal",
            **routing,
        }
        return {
            "accounts": [account],
            "default_account_id": self.id,
            "account_ordering": [self.id],
        }


def _encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
