"""The face towards people and CI: the same services without an agent."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable

from codex_counsel import __version__
from codex_counsel.errors import CATALOG, CounselError

Verb = Callable[[argparse.Namespace], int]

DESCRIPTION = "Ask OpenAI's Codex for a second opinion, supervised and sandboxed."
EXIT_CODES = (
    "exit codes: 0 done or clean, 1 failed or findings, 2 usage, 3 no Codex, 4 timed out or stalled, 130 interrupted"
)


def run(argv: list[str]) -> int:
    """Run one verb; the number is the process's exit code."""
    _say_it_anyway()
    arguments = _parser().parse_args(argv)
    try:
        _supported()
        return int(arguments.verb(arguments))
    except CounselError as error:
        return _failed(arguments, error)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away: nobody is left to be told
        return 1


def _say_it_anyway() -> None:
    """What the terminal's encoding lacks is printed as an escape: an answer is not lost for a dash."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _supported() -> None:
    from codex_counsel.system.path import require_posix

    require_posix()


def _failed(arguments: argparse.Namespace, error: CounselError) -> int:
    from codex_counsel.cli.render import show
    from codex_counsel.contract.envelope import failed

    show(failed(f"codex-counsel {arguments.name}", error).wire(), as_json=getattr(arguments, "json", False))
    return CATALOG[error.code].exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="codex-counsel", description=DESCRIPTION, epilog=EXIT_CODES)
    parser.add_argument("--version", action="version", version=f"codex-counsel {__version__}")
    verbs = parser.add_subparsers(dest="name", required=True, metavar="VERB")
    _add(verbs, "mcp", "serve the tools over stdio to an MCP client", _mcp)
    _add(verbs, "status", "is Codex usable here", _verb("status"), _status_arguments)
    _add(
        verbs, "demo", "show the main job on a sample repository, with a scripted model", _verb("demo"), _demo_arguments
    )
    _add(verbs, "consult", "ask a question about the workspace", _verb("consult"), _consult_arguments)
    _add(verbs, "review", "review changes of the repository", _verb("review"), _review_arguments)
    _add(verbs, "plan", "review a plan against the repository", _verb("plan"), _plan_arguments)
    _add(
        verbs, "delegate", "have a task done in a throwaway copy; prints a diff", _verb("delegate"), _delegate_arguments
    )
    _add(verbs, "apply", "apply a delegate's diff to the working tree", _verb("apply"), _apply_arguments)
    _add(verbs, "models", "models and efforts the installed Codex lists", _verb("models"))
    _add(verbs, "jobs", "list runs", _verb("jobs"), _jobs_arguments)
    _add(verbs, "result", "the result of a run", _verb("result"), _result_arguments)
    _add(verbs, "cancel", "end a run and all its processes", _verb("cancel"), _job_argument)
    _add(verbs, "gate", "an opt-in review at the end of each turn of Claude Code", _gate, _gate_arguments)
    return parser


def _add(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    words: str,
    verb: Verb,
    arguments: Callable[[argparse.ArgumentParser], object] = lambda _: None,
) -> None:
    parser = verbs.add_parser(name, help=words, description=words, epilog=EXIT_CODES)
    if name not in ("mcp", "demo", "gate"):
        parser.add_argument("--json", action="store_true", help="print the envelope as JSON")
    arguments(parser)
    parser.set_defaults(verb=verb)


def _verb(name: str) -> Verb:
    def call(arguments: argparse.Namespace) -> int:
        from codex_counsel.cli import verbs

        return int(getattr(verbs, name)(arguments))

    return call


def _gate(arguments: argparse.Namespace) -> int:
    from codex_counsel.cli.gate import gate_verb

    return gate_verb(arguments)


def _gate_arguments(parser: argparse.ArgumentParser) -> None:
    from codex_counsel.cli.gate import arguments

    arguments(parser)


def _mcp(_arguments: argparse.Namespace) -> int:
    from codex_counsel.server.main import serve

    return serve()


def _status_arguments(parser: argparse.ArgumentParser) -> None:
    _workspace(parser)
    parser.add_argument("--clear-limits", action="store_true", help="forget remembered usage and rate limits")


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--live", action="store_true", help="use your own Codex and login; spends tokens")


def _consult_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("question", nargs="?", default="-", help="the question; - or nothing: standard input")
    _workspace(parser)
    parser.add_argument("--background", action="store_true", help="print the job id and return")
    parser.add_argument("--context-file", metavar="FILE", help="further material from a file")
    parser.add_argument("--stance", choices=("advise", "challenge"), default="advise")
    parser.add_argument("--output-schema", metavar="FILE", help="JSON Schema of the reply")
    for flag, words in (
        ("text-only", "no shell: answer from the text alone"),
        ("web-search", "let Codex search the web"),
        ("network", "let its commands use the network"),
    ):
        parser.add_argument(f"--{flag}", action="store_true", help=words)
    parser.add_argument("--image", action="append", default=[], metavar="FILE", dest="images")
    _run_arguments(parser)


def _review_arguments(parser: argparse.ArgumentParser) -> None:
    scopes = ("working_tree", "staged", "branch", "commit", "range", "files")
    parser.add_argument("--scope", choices=scopes, default="working_tree")
    parser.add_argument("--base", help="scope branch: compare with this")
    parser.add_argument("--commit", help="scope commit: this one; default: HEAD")
    parser.add_argument("--range", help="scope range: a..b or a...b")
    parser.add_argument("paths", nargs="*", help="only these files or folders, relative to the workspace")
    parser.add_argument("--plan", help="what was agreed: missing steps become findings")
    parser.add_argument("--plan-path", metavar="FILE")
    parser.add_argument("--dry-run", action="store_true", help="show what would be sent; free")
    parser.add_argument("--network", action="store_true", help="let its commands use the network")
    _reviewer_arguments(parser)


def _plan_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("plan_path", metavar="FILE", help="the plan; - for standard input")
    _reviewer_arguments(parser)


def _delegate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", nargs="?", default="-", help="the task; - or nothing: standard input")
    _workspace(parser)
    parser.add_argument("--from-job", metavar="JOB", help="go on from this delegate's diff and thread")
    parser.add_argument("--dry-run", action="store_true", help="show what it would start from; free")
    parser.add_argument("--background", action="store_true", help="print the job id and return")
    parser.add_argument("--context-file", metavar="FILE", help="further material from a file")
    parser.add_argument("--network", action="store_true", help="let its commands use the network")
    parser.add_argument("--web-search", action="store_true", help="let Codex search the web")
    parser.add_argument("--image", action="append", default=[], metavar="FILE", dest="images")
    _run_arguments(parser)


def _apply_arguments(parser: argparse.ArgumentParser) -> None:
    _job_argument(parser)
    _workspace(parser)
    parser.add_argument("--check-only", action="store_true", help="say whether it would apply; write nothing")
    parser.add_argument("--undo", action="store_true", help="take an applied diff back")
    allow = "accept a sensitive path you have looked at"
    parser.add_argument("--allow-path", action="append", default=[], metavar="PATH", dest="allow_paths", help=allow)


def _reviewer_arguments(parser: argparse.ArgumentParser) -> None:
    _workspace(parser)
    severities = ("critical", "high", "medium", "low", "nit", "never")
    parser.add_argument("--format", choices=("text", "markdown", "json", "sarif", "github"), default="text")
    parser.add_argument("--fail-on", choices=severities, default="high", help="exit 1 from this severity on")
    parser.add_argument("--focus", help="what to look at, or a question about an earlier review")
    parser.add_argument("--stance", choices=("review", "challenge"), default="review")
    parser.add_argument("--context-file", metavar="FILE", help="further material from a file")
    parser.add_argument("--background", action="store_true", help="print the job id and return")
    parser.add_argument("--web-search", action="store_true", help="let Codex search the web")
    _run_arguments(parser)


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    for flag in ("model", "effort", "profile", "session-id", "idempotency-key"):
        parser.add_argument(f"--{flag}")
    parser.add_argument("--extra-root", action="append", default=[], metavar="DIR", dest="extra_roots")
    parser.add_argument("--timeout-seconds", type=int)


def _jobs_arguments(parser: argparse.ArgumentParser) -> None:
    _workspace(parser)
    parser.add_argument("--status", choices=("queued", "running", "completed", "failed", "cancelled"))
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--sweep", action="store_true", help="first remove what killed runs left behind")


def _result_arguments(parser: argparse.ArgumentParser) -> None:
    _job_argument(parser)
    parser.add_argument("--wait", action="store_true", help="wait until the run has ended")


def _job_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job_id")


def _workspace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-C", "--workspace-root", metavar="DIR", help="the project; default: the current directory")
