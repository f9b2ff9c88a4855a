"""Which values of Codex's configuration a caller of `codex` may set: the argument `config`, a tree or dotted names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from codex_counsel.errors import Code, CounselError
from codex_counsel.system.json_values import Json

EFFORT = "model_reasoning_effort"
PASSED = (EFFORT, "model_reasoning_summary", "model_verbosity")
"""Values that change how the model answers, and nothing that a run may read, write, start or reach."""


def passed(config: Mapping[str, Json]) -> dict[str, Json]:
    """The values by their dotted names. Raises `invalid_arguments` that names what is not passed on."""
    values = dict(_leaves(config))
    refused = sorted(name for name in values if name not in PASSED)
    if refused:
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"config: {', '.join(refused)} cannot be set by a caller",
            repair=f"Leave it out, or have the user set it in config.toml. These are passed on: {', '.join(PASSED)}.",
        )
    return values


def _leaves(tree: Mapping[str, Json], prefix: str = "") -> Iterator[tuple[str, Json]]:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value
