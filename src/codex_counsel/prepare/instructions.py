"""Whose base instructions the model of a consultation or review gets: ours, or Codex's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codex_counsel.contract.vocabulary import Instructions
from codex_counsel.errors import Code, CounselError
from codex_counsel.prepare.secret_files import is_utf8

if TYPE_CHECKING:
    from codex_counsel.codex.account import Login
    from codex_counsel.codex.binary import Codex
    from codex_counsel.kind import Brief
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
    if _refuses_others(codex, login) or not _is_readable(context):
        return "codex"
    return context.settings.instructions


def _refuses_others(codex: Codex, login: Login) -> bool:
    """Whether the service accepts only Codex's own."""
    return login.kind in CHATGPT_LOGINS and codex.release < SENT_AS_MESSAGE


def _is_readable(context: Context) -> bool:
    """Whether Codex can be told of a file in a job's directory."""
    return is_utf8(str(context.settings.state))


def of_run(context: Context, preflight: Preflight, brief: Brief) -> str | None:
    """The text that replaces Codex's base instructions, or None.

    Raises `codex_too_old` or `storage_failed` where that of a caller cannot.
    """
    if brief.callers_instructions:
        _check_replaceable(context, preflight)
        return brief.callers_instructions
    if of_opinions(context, preflight.codex, preflight.login) == "codex":
        return None
    return brief.instructions


def _check_replaceable(context: Context, preflight: Preflight) -> None:
    repair = "Leave base-instructions out, and say the same in developer-instructions."
    if _refuses_others(preflight.codex, preflight.login):
        raise CounselError(
            Code.CODEX_TOO_OLD,
            f"base-instructions: with a ChatGPT account Codex {preflight.codex.version} can use only its own",
            repair=f"{repair} Codex 0.162 and later take them.",
        )
    if not _is_readable(context):
        raise CounselError(
            Code.STORAGE_FAILED,
            "base-instructions: the path of the state directory is not UTF-8, so Codex cannot be given a file in it",
            repair=repair,
        )
