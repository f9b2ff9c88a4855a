"""How hard the model is asked to think, and who decided it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codex_counsel.codex import inspect
from codex_counsel.contract.request import Delegate
from codex_counsel.errors import CounselError
from codex_counsel.system.json_values import Json, JsonObject

if TYPE_CHECKING:
    from codex_counsel.codex.binary import Codex
    from codex_counsel.contract.request import RunRequest
    from codex_counsel.contract.vocabulary import EffortSource
    from codex_counsel.prepare.context import Context
    from codex_counsel.prepare.preflight import Preflight

UP_TO_HIGH = ("high", "medium", "low", "minimal", "none")
"""Codex's names of the efforts that a second opinion is asked for, the preferred one first."""


@dataclass(frozen=True)
class Effort:
    """The reasoning effort of a turn. `name` is None where Codex is told none and the model takes its own default."""

    name: str | None
    source: EffortSource


def of_run(context: Context, request: RunRequest, preflight: Preflight) -> Effort:
    """The effort that the caller named, then the settings, then the user's Codex; else `of_opinion`.

    A delegate's model decides by itself: the test run of a task shows an error that an
    opinion would hide. Never raises.
    """
    if request.effort:
        return Effort(request.effort, "caller")
    configured = of_user(context, preflight.config)
    if configured:
        return configured
    if isinstance(request, Delegate):
        return Effort(None, "model")
    model = request.model or context.settings.model or preflight.config.get("model")
    return of_opinion(context, preflight.codex, preflight.env, model)


def of_user(context: Context, config: Mapping[str, Json]) -> Effort | None:
    """What the user has set for every run, here or in the configuration of Codex."""
    if context.settings.effort:
        return Effort(context.settings.effort, "setting")
    configured = config.get("model_reasoning_effort")
    if configured:
        return Effort(str(configured), "codex")
    return None


def of_opinion(
    context: Context, codex: Codex, env: Mapping[str, str], model: str | None
) -> Effort:
    """For a question or a review for which nobody named an effort: high, or the highest below it that the model has.

    A model that this Codex does not list may know none of these names, so it decides by
    itself.
    """
    if context.settings.opinion_effort == "model":
        return Effort(None, "model")
    row = listed_model(context, codex, env, model)
    for name in UP_TO_HIGH:
        if row and name in row["efforts"]:
            return Effort(name, "opinion")
    return Effort(None, "model")


def listed_model(
    context: Context, codex: Codex, env: Mapping[str, str], model: str | None
) -> JsonObject | None:
    """The row of `inspect.models` for this model, or for the default one; None where this Codex lists no such model."""
    try:
        rows = inspect.models(codex, env, context.probes)
    except CounselError:
        # The run itself will say what is wrong with this Codex.
        return None
    for row in rows:
        if row["model"] == model or (model is None and row.get("default")):
            return row
    return None
