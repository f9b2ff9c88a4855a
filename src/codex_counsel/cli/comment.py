"""The verb `comment`: a stored review as the one comment on its pull request."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from codex_counsel.cli.comment_text import comment_text
from codex_counsel.cli.progress import LINE
from codex_counsel.cli.render import Output
from codex_counsel.contract.envelope import completed
from codex_counsel.errors import DONE
from codex_counsel.services import checking, pull_request_comment, results


def run(arguments: argparse.Namespace, env: Mapping[str, str]) -> int:
    """Post the review, or with --dry-run print what would be posted; returns the exit code."""
    output = Output.of(arguments)
    wire = checking.read_review(results.open_store(), arguments.result)
    review = checking.parse_envelope(wire)
    pull_request_comment.check(review)
    directory: str | None = arguments.workspace_root
    if directory is not None:
        directory = str(Path(directory).absolute())
    LINE.say("asking the service of the pull request …")
    place = pull_request_comment.look_up(env, directory, arguments.pr, review)
    text = comment_text(review, place.room, place.newest_of(review))
    if not arguments.dry_run:
        output.show(pull_request_comment.post(place, review, text).wire())
        return DONE

    if output.format == "json":
        data = {"action": "none", "text": text}
        dry = completed(pull_request_comment.TOOL, "nothing was posted", data)
        output.show(dry.wire())
        return DONE
    LINE.erase()
    print(text)
    if not arguments.quiet:
        print("nothing was posted", file=sys.stderr)
    return DONE
