"""The requests of a batch, as lines of JSON: `{"id", "kind", "arguments", "repo"}`. All are read before one is started.

`arguments` are those of the tool of `kind`, by their names on the wire. `repo` is a
directory or an address that git clones from; without it, the directory of the batch.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import BinaryIO

from codex_counsel.batch.model import KINDS, REQUESTS, Kind
from codex_counsel.contract.request import is_unicode, parse
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.json_values import Json, JsonObject, too_deep
from codex_counsel.system.text import one_line, visible

MAX_LINE = 4_000_000
"""Bytes of one line."""
MAX_REQUESTS = 100_000
"""Requests of one batch."""
MAX_ID = 200
"""Characters of an id."""
MAX_REPO = 4_096
"""Characters of the name of a repository."""
MAX_PROBLEMS = 20
"""Wrong lines that one error names."""
FIELDS = ("id", "kind", "arguments", "repo")
DECIDED_ELSEWHERE = {
    "workspace_root": "name the repository in the field repo of the line",
    "idempotency_key": "the batch makes one from its own name and the id of the line",
}
"""Arguments that no line may have, each with what to do instead."""
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Line:
    """One request, checked. `repo` is as it was written; None stands for the directory of the batch.

    `number` is that of the line in the file that names the request or its repository, from
    1 on; 0 where there is no file.
    """

    id: str
    kind: Kind
    arguments: JsonObject = field(default_factory=dict)
    repo: str | None = None
    number: int = field(default=0, compare=False)


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, one at a time in memory. A longer one than allowed comes as its beginning."""
    while line := file.readline(MAX_LINE + 3):
        yield line


def read_requests(lines: Iterable[bytes], name: str) -> Iterator[Line]:
    """The requests in the order of their lines; blank lines are skipped. `name` is what messages call the source.

    Read it to its end before anything is started: `invalid_arguments` is raised there, or
    at the twentieth wrong line, with one sentence for each. Raises `input_too_large` at
    once for a line or a number of lines above the limits.
    """
    shown_name = one_line(visible(name), 200)
    problems: list[str] = []
    first_with: dict[str, int] = {}
    for number, raw in enumerate(lines, 1):
        _check_size(raw, f"{shown_name}, line {number}", len(first_with))
        text = raw.removeprefix(_BOM) if number == 1 else raw
        if not text.strip():
            continue
        try:
            line = _line(text)
            _note_id(line.id, number, first_with)
        except _WrongLineError as error:
            problems.append(f"line {number}: {error}")
            if len(problems) == MAX_PROBLEMS:
                break
            continue
        yield replace(line, number=number)
    if problems:
        raise _wrong_lines(shown_name, problems)
    if not first_with:
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"{shown_name} holds no request",
            repair="Write one request on each line, such as"
            ' {"id": "1", "kind": "review", "arguments": {"scope": "branch"}}.',
        )


def check_request(line: Line) -> None:
    """Raise `invalid_arguments` unless the tool of its kind takes the arguments. No tool is called."""
    for name, advice in DECIDED_ELSEWHERE.items():
        if name in line.arguments:
            raise CounselError(
                Code.INVALID_ARGUMENTS,
                f"arguments: `{name}` is decided by the batch; {advice}",
            )
    try:
        parse(REQUESTS[line.kind], line.arguments)
    except CounselError as error:
        message = _argument_of(line.kind).sub(r"`\g<0>`", error.message)
        raise CounselError(
            error.code, f"arguments: {message}", repair=error.repair
        ) from None


@cache
def _argument_of(kind: Kind) -> re.Pattern[str]:
    """Arguments in a message. In quotes they stay what a line calls them: a terminal is told of flags otherwise."""
    names = [
        str(item.metadata.get("alias", item.name)) for item in fields(REQUESTS[kind])
    ]
    compound = "|".join(name for name in names if "_" in name)
    return re.compile(
        rf"(?<![\w`.-])(?:{compound})(?![\w`.=-])|(?<=; )(?:{'|'.join(names)})(?=[:.])"
    )


class _WrongLineError(Exception):
    """What is wrong with a line."""


def _note_id(name: str, number: int, first_with: dict[str, int]) -> None:
    earlier = first_with.setdefault(name, number)
    if earlier != number:
        raise _WrongLineError(
            f"id: line {earlier} has the same one; give each line its own"
        )


def _check_size(raw: bytes, place: str, count: int) -> None:
    if len(raw.rstrip(b"\r\n")) > MAX_LINE:
        raise CounselError(
            Code.INPUT_TOO_LARGE,
            f"{place} has more than {MAX_LINE:,} bytes; nothing was started",
            repair="Name files of the repository instead of pasting them, and end each request with a line end.",
        )
    if count >= MAX_REQUESTS and raw.strip():
        raise CounselError(
            Code.INPUT_TOO_LARGE,
            f"{place}: a batch has at most {MAX_REQUESTS:,} requests; nothing was started",
            repair="Make several batches of it.",
        )


def _wrong_lines(name: str, problems: list[str]) -> CounselError:
    count = f"{len(problems)} wrong lines"
    if len(problems) == 1:
        count = "a wrong line"
    if len(problems) == MAX_PROBLEMS:
        count = f"{MAX_PROBLEMS} wrong lines or more"
    listed = "\n".join(problems)
    return CounselError(
        Code.INVALID_ARGUMENTS,
        f"{name} has {count}; nothing was started.\n{listed}",
        repair="Correct the lines and start the batch again.",
    )


def _line(raw: bytes) -> Line:
    """The request of a line. Raises _WrongLineError."""
    value = _parsed(raw)
    if not isinstance(value, dict):
        raise _WrongLineError(
            'is no JSON object; write {"id": ..., "kind": ..., "arguments": {...}}'
        )
    for name in value:
        if name not in FIELDS:
            shown = one_line(visible(name), 80)
            raise _WrongLineError(
                f"{shown} is not a field of a request; the fields are {', '.join(FIELDS)}"
            )
    line = Line(
        _id_of(value.get("id")),
        _kind_of(value.get("kind")),
        _arguments_of(value.get("arguments")),
        _repo_of(value.get("repo")),
    )
    try:
        check_request(line)
    except CounselError as error:
        raise _WrongLineError(one_line(visible(error.message), 1_000)) from None
    return line


def _parsed(raw: bytes) -> Json:
    """The JSON of a line. Raises _WrongLineError for what no other program would read in the same way, too."""
    try:
        value = json.loads(
            raw.decode(),
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_without_repetition,
        )
        is_text = is_unicode(json.dumps(value, ensure_ascii=False))
    except UnicodeDecodeError:
        raise _WrongLineError("is not UTF-8") from None
    except RecursionError:
        raise _WrongLineError("is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise _WrongLineError(
            f"is no JSON: {error.msg} at character {error.pos + 1}"
        ) from None
    except ValueError as error:
        # Of numbers with very many digits Python tells more than a reader needs.
        raise _WrongLineError(f"is no JSON: {one_line(str(error), 80)}") from None
    if not is_text:
        raise _WrongLineError("has one half of a surrogate pair, which is no character")
    if too_deep(value):
        raise _WrongLineError("is nested too deeply")
    return value


def _refuse_constant(name: str) -> Json:
    raise _WrongLineError(f"{name} is no number of JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _WrongLineError("has a number that is too large")
    return number


def _without_repetition(pairs: list[tuple[str, Json]]) -> JsonObject:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        shown = one_line(visible(repeated), 80)
        raise _WrongLineError(f"{shown} stands in it twice")
    return result


def _id_of(value: Json) -> str:
    if not isinstance(value, str):
        raise _WrongLineError(
            'id: is missing or no text; write a name for this request, such as "pr-12"'
        )
    if not value.strip():
        raise _WrongLineError("id: is blank")
    if len(value) > MAX_ID:
        raise _WrongLineError(f"id: has more than {MAX_ID} characters")
    has_breaks = any(character in value for character in "\t\r\n")
    if has_breaks or value != value.strip() or value != visible(value):
        raise _WrongLineError(
            "id: has control or hidden characters, or blanks at an end"
        )
    return value


def _kind_of(value: Json) -> Kind:
    for kind in KINDS:
        if value == kind:
            return kind
    raise _WrongLineError(f"kind: is none of {', '.join(KINDS)}")


def _arguments_of(value: Json) -> JsonObject:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _WrongLineError(
            "arguments: is no object of arguments by their names, such as"
            ' {"scope": "branch"}'
        )
    return value


def _repo_of(value: Json) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise _WrongLineError("repo: is no text; write a path or an address")
    if not value.strip():
        raise _WrongLineError(
            "repo: is blank; leave it out for the directory of the batch"
        )
    if len(value) > MAX_REPO:
        raise _WrongLineError(f"repo: has more than {MAX_REPO:,} characters")
    if value != visible(value) or "\n" in value:
        raise _WrongLineError("repo: has control or hidden characters")
    return value
