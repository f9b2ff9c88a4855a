"""Whose base instructions the model of a consultation or review gets: ours, or Codex's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codex_counsel.contract.vocabulary import Instructions
from codex_counsel.prepare.secret_files import is_utf8

if TYPE_CHECKING:
    from codex_counsel.codex.account import Login
    from codex_counsel.codex.binary import Codex
    from codex_counsel.prepare.context import Context
    from codex_counsel.prepare.preflight import Preflight

SENT_AS_MESSAGE = (0, 162, 0)
"""The first release that sends the base instructions of every model as a message.

Earlier ones (0.148 to 0.161) send those of models without code mode in a field of the
request, in which the service of ChatGPT accounts accepts only Codex's own.
"""
CHATGPT_LOGINS = ("chatgpt", "keyring")
"""Logins that are, or may be, those of a ChatGPT account."""


def of_opinions(context: Context, codex: Codex, login: Login) -> Instructions:
    """What consultations and reviews get: as the setting says, where the service accepts it and Codex can read it."""
    refuses_ours = login.kind in CHATGPT_LOGINS and codex.release < SENT_AS_MESSAGE
    # Codex is told of the file in the job's directory.
    if refuses_ours or not is_utf8(str(context.settings.state)):
        return "codex"
    return context.settings.instructions


def of_run(context: Context, preflight: Preflight, own: str | None) -> str | None:
    """The text that replaces Codex's base instructions, or None. `own` is the one of the run's kind."""
    if of_opinions(context, preflight.codex, preflight.login) == "codex":
        return None
    return own
