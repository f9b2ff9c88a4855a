"""The project file `.codex-counsel.toml`: what a team decides about reviews and tasks in its repository.

Policy only: what a run may do, spend or reach is for the user to decide. The dataclasses
are the shape of the file; the JSON Schema for editors derives from them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from codex_counsel.contract.request import (
    MAX_CHECK,
    Consult,
    Delegate,
    ReviewChanges,
    argument_names,
)
from codex_counsel.contract.settings import Settings
from codex_counsel.contract.vocabulary import PROJECT_FILE, FailOn
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.json_values import Json, JsonObject
from codex_counsel.system.text import one_line, visible

MAX_BYTES = 65_536
MAX_LINE = 4_000
"""Bytes of one line. Python's parser takes quadratic time for a key of very many parts."""
MAX_PATTERNS = 500
MAX_PATTERN = 300
"""Characters."""
MAX_STARS = 4
"""Of `*` and `**` in a pattern: with each, git may take as many times longer as a name has characters."""
MAX_FOCUS = 4_000
"""Characters."""
MAX_PATH_TABLES = 20
MAX_WARNINGS = 10

ProjectScope = Literal["working_tree", "staged", "branch", "files"]
"""The scopes that need no further argument, and that hold all of what they name."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_LINE_END = re.compile(r"[\t\n]")
_STARS = re.compile(r"\*+")
_TABLE = re.compile(r"\s*\[\[?([^\[\]]+)\]")


# --- the shape


def _key(
    description: str,
    *,
    length: int = 0,
    items: int = 0,
    lines: bool = False,
    word: bool = False,
    pattern: bool = False,
) -> Any:
    """A key that may be left out.

    `length` are the characters of a text, or of each item of a list, `items` those of a
    list. `lines`: the text may have several. `word`: it must not read as an option.
    `pattern`: each item is a pattern.
    """
    default: Any = () if items else None
    rule: dict[str, Any] = {"length": length, "items": items, "lines": lines}
    rule |= {"word": word, "pattern": pattern}
    return field(default=default, metadata={"description": description, **rule})


@dataclass(frozen=True)
class PathPolicy:
    """What holds for some files, in addition to what holds for all."""

    paths: tuple[str, ...] = _key(
        "the files: patterns as in .gitignore",
        length=MAX_PATTERN,
        items=MAX_PATTERNS,
        pattern=True,
    )
    focus: str | None = _key(
        "what a reviewer of these files is to look at in particular",
        length=MAX_FOCUS,
        lines=True,
    )
    fail_on: FailOn | None = _key(
        "the least severity of a finding in these files that fails a review; it can only be stricter than the other"
    )


@dataclass(frozen=True)
class ReviewPolicy:
    """What holds for reviews of changes."""

    scope: ProjectScope | None = _key("what is reviewed where the caller names nothing")
    base: str | None = _key(
        "the branch that scope branch is compared with where the caller names none",
        length=200,
        word=True,
    )
    skip: tuple[str, ...] = _key(
        "files that are not sent to a reviewer: patterns as in .gitignore",
        length=MAX_PATTERN,
        items=MAX_PATTERNS,
        pattern=True,
    )
    fail_on: FailOn | None = _key(
        "the least severity of a finding that fails a review where the caller names none"
    )
    focus: str | None = _key(
        "what every reviewer is to look at in particular", length=MAX_FOCUS, lines=True
    )
    paths: tuple[PathPolicy, ...] = _key(
        "what holds for some files", items=MAX_PATH_TABLES
    )


@dataclass(frozen=True)
class DelegatePolicy:
    """What holds for delegated tasks."""

    check: str | None = _key(
        "the shell command that the result must pass where the caller names none; it runs in the sandbox of the task",
        length=MAX_CHECK,
        lines=True,
    )


@dataclass(frozen=True)
class Policy:
    """The whole file."""

    review: ReviewPolicy = field(
        default=ReviewPolicy(), metadata={"description": "reviews of changes"}
    )
    delegate: DelegatePolicy = field(
        default=DelegatePolicy(), metadata={"description": "delegated tasks"}
    )


TABLES = {"review": ReviewPolicy, "delegate": DelegatePolicy}
NO_POLICY = Policy()
OTHER_POWERS = (
    "account",
    "api_key",
    "approval_policy",
    "base_url",
    "env",
    "environment",
    "hooks",
    "login",
    "mcp_servers",
    "plugins",
    "provider",
    "sandbox",
    "timeout",
    "token",
    "tools",
)
"""What other tools call powers of the user."""


@cache
def _powers() -> frozenset[str]:
    """What the user decides, by the names of arguments and settings, and by names that other tools have for it.

    Such a name as a part of another, as in `model_name`, is meant too.
    """
    names = {item.name for item in fields(Settings)}
    for request in (ReviewChanges, Delegate, Consult):
        names.update(argument_names(request))
    names.update(OTHER_POWERS)
    for table in (ReviewPolicy, PathPolicy, DelegatePolicy):
        names.difference_update(_names(table))
    return frozenset(names)


# --- reading


@dataclass(frozen=True)
class ParsedFile:
    """The policy of a file, and warnings of keys that are not in force."""

    policy: Policy
    warnings: tuple[str, ...]


def parse(data: bytes) -> ParsedFile:
    """The content of a project file. Raises `project_file_invalid`, with the line where that is known."""
    if len(data) > MAX_BYTES:
        raise invalid(f"it has more than {MAX_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise invalid("it is not in UTF-8", line) from None
    for number, row in enumerate(data.split(b"\n"), 1):
        if len(row) > MAX_LINE:
            message = f"the line has more than {MAX_LINE} bytes: break it"
            raise invalid(message, number)

    reader = _Reader(text)
    policy: Policy = reader.table(Policy, _toml(text), ())
    return ParsedFile(policy, tuple(_bounded(reader.warnings)))


def read_paths(tables: Json) -> tuple[PathPolicy, ...]:
    """Parsed tables of `review.paths`, held to the limits of the file. Raises `project_file_invalid`."""
    table = {"paths": tables}
    policy: ReviewPolicy = _Reader("").table(ReviewPolicy, table, ("review",))
    return policy.paths


def _toml(text: str) -> JsonObject:
    # Most runs have no such file.
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # Python's message ends with the line and the column.
        raise invalid(f"it is not TOML: {error}") from None
    except (RecursionError, ValueError) as error:
        # A number of very many digits is a ValueError.
        raise invalid(f"its values are nested too deep, or too long: {error}") from None


def invalid(message: str, line: int | None = None) -> CounselError:
    """The error `project_file_invalid`."""
    place = PROJECT_FILE
    if line:
        place = f"{place}, line {line}"
    return CounselError(
        Code.PROJECT_FILE_INVALID, one_line(visible(f"{place}: {message}"), 500)
    )


class _Reader:
    """Turns tables into dataclasses, and collects the warnings."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.warnings: list[str] = []

    def table(self, kind: Any, table: JsonObject, place: tuple[str, ...]) -> Any:
        """The table as an instance of `kind`. `place` are the names of the tables around it."""
        known = {item.name: item for item in fields(kind)}
        hints = get_type_hints(kind)
        values: JsonObject = {}
        for name, value in table.items():
            if name not in known:
                self.warnings.append(_not_in_force(name, kind, place))
                continue
            rule = known[name].metadata
            values[name] = self._value(hints[name], value, (*place, name), rule)
        if kind is PathPolicy and not values.get("paths"):
            raise self._wrong(place, "names no paths")
        return kind(**values)

    def _value(
        self, hint: Any, value: Json, place: tuple[str, ...], rule: Mapping[str, Any]
    ) -> Any:
        kind = _without_none(hint)
        if is_dataclass(kind):
            if not isinstance(value, dict):
                raise self._wrong(place, "must be a table")
            return self.table(kind, value, place)
        if get_origin(kind) is tuple:
            return self._list(get_args(kind)[0], value, place, rule)
        if get_origin(kind) is Literal:
            if value not in get_args(kind):
                choices = ", ".join(get_args(kind))
                raise self._wrong(place, f"must be one of {choices}")
            return value
        problem = _problem_of_text(value, rule)
        if problem:
            raise self._wrong(place, problem)
        return value

    def _list(
        self, kind: Any, value: Json, place: tuple[str, ...], rule: Mapping[str, Any]
    ) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise self._wrong(place, "must be a list")
        if len(value) > rule["items"]:
            raise self._wrong(place, f"has more than {rule['items']} entries")
        return tuple(self._value(kind, item, place, rule) for item in value)

    def _wrong(self, place: tuple[str, ...], problem: str) -> CounselError:
        name = ".".join(place)
        return invalid(f"{name} {problem}", line_of(self.text, place))


def _without_none(hint: Any) -> Any:
    if NoneType in get_args(hint):
        return get_args(hint)[0]
    return hint


def _problem_of_text(value: Json, rule: Mapping[str, Any]) -> str:
    """What is wrong with a text; empty where nothing is."""
    if not isinstance(value, str):
        return "must be a text"
    if not value.strip():
        return "is blank"
    if len(value) > rule["length"]:
        return f"has more than {rule['length']} characters"
    return _problem_of_characters(value, rule)


def _problem_of_characters(value: str, rule: Mapping[str, Any]) -> str:
    if _CONTROL.search(value) or (not rule["lines"] and _LINE_END.search(value)):
        return "has control characters"
    if rule["word"] and value.startswith("-"):
        return "begins with '-'"
    if rule["pattern"] and len(_STARS.findall(value)) > MAX_STARS:
        return f"has a pattern with more than {MAX_STARS} stars"
    return ""


def line_of(text: str, place: tuple[str, ...]) -> int | None:
    """The line on which the key stands that has this place, or else its table; None where neither is found.

    Of several tables of one name the first counts that has the key. Keys within a text of
    several lines look like others, so it may be wrong: it is for people.
    """
    *tables, key = place
    wanted = ".".join(tables)
    assignment = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*[=.]""")
    current = ""
    for number, line in enumerate(text.split("\n"), 1):
        table = _TABLE.match(line)
        if table:
            current = "".join(table[1].split())
            if current == ".".join(place):
                return number
        elif current == wanted and assignment.match(line):
            return number
    return None


def _not_in_force(name: str, kind: Any, place: tuple[str, ...]) -> str:
    """The warning of a key that means nothing in this table."""
    shown = one_line(visible(".".join((*place, name))), 80)
    word = name.lower().replace("-", "_")
    for table, each in TABLES.items():
        if word in _names(each) and table != ".".join(place):
            return f"{PROJECT_FILE}: {shown} is not in force: it belongs to [{table}]"
    if not _powers().isdisjoint((word, *word.split("_"))):
        return (
            f"{PROJECT_FILE}: {shown} is not in force: it is for the user to decide, by an argument or a setting, "
            "and not for a project"
        )
    # Only a mistake needs it.
    from difflib import get_close_matches

    message = f"{PROJECT_FILE}: {shown} is unknown, and not in force"
    near = get_close_matches(word, _names(kind), n=1)
    if near:
        return f"{message}; did you mean {near[0]}?"
    return message


def _names(kind: Any) -> list[str]:
    return [item.name for item in fields(kind)]


def _bounded(warnings: list[str]) -> Iterator[str]:
    yield from warnings[:MAX_WARNINGS]
    rest = len(warnings) - MAX_WARNINGS
    if rest > 0:
        yield f"{PROJECT_FILE}: {rest} more keys are not in force"


# --- for editors


def json_schema() -> JsonObject:
    """The JSON Schema of the file, for editors that check TOML."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": f"codex-counsel: the project file {PROJECT_FILE}",
        **_schema_of_table(Policy),
    }


def _schema_of_table(kind: Any) -> JsonObject:
    hints = get_type_hints(kind)
    properties: JsonObject = {}
    for item in fields(kind):
        described = {"description": item.metadata["description"]}
        schema = _schema_of(hints[item.name], item.metadata)
        properties[item.name] = described | schema
    table: JsonObject = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    if kind is PathPolicy:
        table["required"] = ["paths"]
        properties["paths"]["minItems"] = 1
    return table


def _schema_of(hint: Any, rule: Mapping[str, Any]) -> JsonObject:
    kind = _without_none(hint)
    if is_dataclass(kind):
        return _schema_of_table(kind)
    if get_origin(kind) is tuple:
        items = _schema_of(get_args(kind)[0], rule)
        return {"type": "array", "items": items, "maxItems": rule["items"]}
    if get_origin(kind) is Literal:
        return {"enum": list(get_args(kind))}
    # Without a look-ahead, which not every editor knows.
    shape = r"\S"
    if rule["word"]:
        shape = r"^[^-]"
    if rule["pattern"]:
        shape = rf"^[^*]*(\*+[^*]*){{0,{MAX_STARS}}}$"
    return {
        "type": "string",
        "minLength": 1,
        "maxLength": rule["length"],
        "pattern": shape,
    }
