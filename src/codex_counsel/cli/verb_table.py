"""The verbs of the command line, and the flags that no request has: what a terminal needs differently."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from codex_counsel.contract.request import (
    Apply,
    Consult,
    Delegate,
    Findings,
    JobList,
    ReviewChanges,
    ReviewPlan,
    Status,
    ToolRequest,
    Transfer,
)
from codex_counsel.contract.vocabulary import (
    APPROVAL_POLICIES,
    CODEX_SANDBOXES,
    FAIL_ON,
    FINDING_ACTIONS,
    FINDING_STATES,
    SEVERITIES,
)
from codex_counsel.errors import EXIT_CODES

FORMATS = (
    "text",
    "json",
    "markdown",
    "html",
    "sarif",
    "github",
    "rdjson",
    "gitlab",
    "junit",
)
COMPARE_FORMATS = ("text", "json", "html")
GATE_SEVERITIES = SEVERITIES[:-1]
SHELLS = ("bash", "zsh", "fish")
COLOURS = ("auto", "always", "never")
EXIT_CODE_LIST = "exit codes:\n" + "\n".join(
    f"  {code:<4} {meaning}" for code, meaning in EXIT_CODES.items()
)

SCOPES_HELP = """\
what --scope means:
  working_tree  all uncommitted work: staged, unstaged and untracked files
  staged        what is in the index
  branch        what this branch added since it left --base
  commit        one commit
  range         the commits of --range
  files         whole files, changed or not

"""

FINDINGS_HELP = """\
actions:
  list    what is on record of this repository; without an action this one
  show    everything about one finding
  accept  it is right and will be mended; it counts until it is fixed
  reject  it does not count any more, and reviews are told why; needs --reason
  reopen  take the decision back
  forget  take it off the record

"""


COMPAT_HELP = """\
What these name holds for calls that name nothing else. The words that began the old command line (`mcp-server`, `mcp`,
`mcp serve`) may stand anywhere, and are ignored. exit codes: `codex-counsel --help` lists them
"""

RUN_HELP = """\
Codex is asked with the login of this machine: a pack brings none (`codex login`, or CODEX_API_KEY). The run may do what
the settings of this machine allow. The same pack run twice is one run: after an interrupt, run it again and get its
result; one that failed is started anew. Where the request cannot be started, no file is written.

"""

BATCH_HELP = """\
a line of FILE, with the arguments that the tool of its kind has (docs/reference/tools.md):
  {"id": "shop", "kind": "review", "arguments": {"scope": "branch"}, "repo": "../shop"}

examples:
  codex-counsel batch requests.jsonl --jobs 4
  codex-counsel batch --review-range v1.0..v1.1 --fail-on high
  codex-counsel batch --review-prs 12,15 --arguments '{"effort": "low"}'
  codex-counsel batch --audit 'src/**/*.py' --per directory --dry-run
  codex-counsel batch --delegate "Update the copyright year" --repos ../shop,../bank

Ctrl-C once: nothing more is started, and what runs ends. Twice: what runs is ended too. Either way, and after a crash,
--resume goes on. A usage limit does not fail items: the batch waits for its reset.

"""

COMPLETION_HELP = """\
add to the file that your shell reads at its start:
  bash  ~/.bashrc                   eval "$(codex-counsel completion bash)"
  zsh   ~/.zshrc, after compinit    eval "$(codex-counsel completion zsh)"
  fish  ~/.config/fish/config.fish  codex-counsel completion fish | source
"""
STAYS_HERE = (
    "session_id",
    "profile",
    "extra_roots",
    "from_job",
    "since",
    "use_reserve",
)
"""Arguments that mean nothing elsewhere. Whoever names one is told so; the help of a pack does not list them."""
PACK_HELP = """\
A pack brings no login: the machine that runs it uses its own. Secret files stay here; what does not travel is named.
For --network, `codex-counsel run` needs --network too.

exit codes: `codex-counsel --help` lists them
"""


@dataclass(frozen=True)
class Verb:
    """Each argument of `request` is a flag, but for those that are `positional`.

    `add_input` adds these, and what else says what is asked. `add_arguments` adds the flags
    that no request has. After a verb that `packs`, a verb with an `add_input` follows, with
    all that says what is asked.
    """

    name: str
    help: str
    request: type[ToolRequest] | None = None
    positional: tuple[str, ...] = ()
    add_input: Callable[[argparse.ArgumentParser], None] | None = None
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None
    packs: bool = False
    prints_envelope: bool = True
    epilog: str = "exit codes: `codex-counsel --help` lists them"


def _mcp(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--compat",
        action="store_true",
        help="serve the two tools of the removed `codex mcp-server` instead: codex and codex-reply",
    )
    add_compat_flags(parser.add_argument_group("only with --compat"))


def add_compat_flags(parser: argparse._ActionsContainer) -> None:
    """The flags of the removed command, for calls of its tools that name nothing else."""
    parser.add_argument(
        "-c",
        "--config",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a value of Codex's configuration, as TOML or else as text; only those that a caller may set too; may be "
        "repeated",
    )
    parser.add_argument("-m", "--model", metavar="NAME", help="the model")
    parser.add_argument(
        "-p", "--profile", metavar="NAME", help="a configuration profile of Codex"
    )
    parser.add_argument(
        "-s",
        "--sandbox",
        choices=CODEX_SANDBOXES,
        help="what calls may do; danger-full-access counts as workspace-write",
    )
    parser.add_argument(
        "-a",
        "--ask-for-approval",
        choices=APPROVAL_POLICIES,
        help="accepted, without effect: nothing is ever asked",
    )
    for flag, value in (("--enable", "true"), ("--disable", "false")):
        parser.add_argument(
            flag,
            action="append",
            default=[],
            metavar="FEATURE",
            help=f"the same as -c features.FEATURE={value}",
        )


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--live",
        action="store_true",
        help="use the real model with your own login; spends quota",
    )


def _consult_input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "question",
        nargs="?",
        default="-",
        help="the question; with - or without it, standard input is read",
    )
    _add_context_file(parser)
    parser.add_argument(
        "--output-schema",
        metavar="FILE",
        help="a JSON Schema that the reply must match",
    )


def _review_input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="*",
        help="only these files or folders, relative to the project",
    )
    _add_context_file(parser)


def _review(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be sent; costs nothing"
    )
    _add_review_flags(parser)


def _plan_input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "plan_path", metavar="FILE", help="the plan; - reads standard input"
    )
    _add_context_file(parser)


def _delegate_input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "task",
        nargs="?",
        default="-",
        help="the task; with - or without it, standard input is read",
    )
    _add_context_file(parser)


def _delegate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="show what the task would start from; costs nothing",
    )
    _add_run_flags(parser)


def add_pack_file(parser: argparse.ArgumentParser) -> None:
    """The flag of `pack` that names the file to be written."""
    parser.add_argument(
        "-o",
        "--pack",
        dest="pack_file",
        required=True,
        metavar="FILE",
        help="the file to write, which `codex-counsel run` runs on another machine; - writes standard output",
    )


def _jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--all", action="store_true", help="list the runs of all directories"
    )
    parser.add_argument(
        "--sweep",
        action="store_true",
        help="first remove the temporary copies of killed runs",
    )


def _usage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--by",
        choices=("day", "workspace", "kind", "model"),
        default="day",
        help="what each line adds up; default: day",
    )
    parser.add_argument(
        "--since",
        metavar="TIME",
        default="7d",
        help="24h, 7d, 4w or a date such as 2026-01-31; days are those of your time zone; default: 7d",
    )
    parser.add_argument(
        "--csv", action="store_true", help="print CSV, without the total"
    )


def _apply(parser: argparse.ArgumentParser) -> None:
    _add_job_id(parser, "the newest task of this directory that fits")


def _result(parser: argparse.ArgumentParser) -> None:
    _add_job_id(parser, "the newest run of this directory")
    parser.add_argument(
        "--wait", action="store_true", help="wait until the run has ended"
    )
    _add_document_flags(parser)
    _add_output_file(parser)


def _run_pack(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pack",
        metavar="PACK",
        help="the file that `codex-counsel pack` wrote; - reads standard input",
    )
    parser.add_argument(
        "-o",
        "--result",
        dest="result_file",
        required=True,
        metavar="RESULT",
        help="the file to write for `codex-counsel take` on the machine that made the pack; also for a run that failed",
    )
    parser.add_argument(
        "--events",
        action="store_true",
        help="put all that Codex reported into that file too",
    )
    parser.add_argument(
        "--network",
        action="store_true",
        help="let the commands of the run use the network of this machine, where the pack asks for that",
    )
    _add_document_flags(parser)
    _add_output_file(parser)


def _take(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "results",
        nargs="+",
        metavar="RESULT",
        help="the file of a result; - reads standard input; several may be named",
    )
    parser.add_argument(
        "-C",
        "--workspace-root",
        metavar="DIR",
        help="the directory of the project; default: that which the pack was made in, else the current one",
    )
    _add_output_file(parser)


def _check(parser: argparse.ArgumentParser) -> None:
    _add_result(parser)
    parser.add_argument(
        "--expect-head",
        metavar="SHA",
        help="the commit that must have been reviewed, or 7 of its digits or more; else the check is inconclusive",
    )
    parser.add_argument(
        "--on-record",
        action="store_true",
        help="let what was rejected or reopened since the review count as it is on record now",
    )
    parser.add_argument(
        "-C",
        "--workspace-root",
        metavar="DIR",
        help="for --on-record: the directory of the project; default: the current one",
    )
    _add_document_flags(parser)
    _add_output_file(parser)


def _comment(parser: argparse.ArgumentParser) -> None:
    _add_result(parser)
    parser.add_argument(
        "--pr",
        required=True,
        metavar="N|URL",
        help="the pull request or merge request of a remote of this repository, by number or URL",
    )
    parser.add_argument(
        "-C",
        "--workspace-root",
        metavar="DIR",
        help="the directory of the project; default: the current one",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the text of the comment; ask the service, and write nothing there",
    )


def _compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "jobs",
        nargs="*",
        metavar="JOB",
        help="two to eight tasks that have ended, by job id or its first digits; one of several attempts means all "
        "of them; default: the newest one with several attempts of this directory",
    )
    parser.add_argument(
        "-C",
        "--workspace-root",
        metavar="DIR",
        help="the directory of the project; default: the current one",
    )
    parser.add_argument(
        "--format",
        choices=COMPARE_FORMATS,
        help="html: one page that needs no network; default: text",
    )
    _add_output_file(parser)
    parser.add_argument(
        "--open",
        action="store_true",
        help="open the page in the browser, and say where it is; without --output it is in the state directory "
        "until the next one",
    )


def _batch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="requests, one JSON object a line: id, kind (consult, review, plan or delegate), arguments, repo; with - "
        "or without it, standard input is read",
    )
    _add_generator_flags(parser)
    parser.add_argument(
        "-C",
        "--workspace-root",
        metavar="DIR",
        help="the directory of requests that name no repo; default: the current one",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="list what would be asked; costs nothing",
    )
    parser.add_argument(
        "--output-dir",
        metavar="DIR",
        help="where requests and results are kept; default: ./codex-counsel-batch- and the time",
    )
    parser.add_argument(
        "--resume",
        metavar="DIR",
        help="go on with the batch in this directory; what has ended is not repeated",
    )
    parser.add_argument(
        "--retry-lost",
        action="store_true",
        help="with --resume: run items anew of which nobody knows whether the model had answered",
    )
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="with --resume: run all items anew that ended with an error, lost ones too; what they used is paid for "
        "again",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="so many runs at once on this machine; default: CODEX_COUNSEL_MAX_RUNNING",
    )
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="run on the workers of a Dask scheduler, or with `local` on processes of this machine; with --resume, "
        "`none` goes on without it",
    )
    parser.add_argument(
        "--lost-after",
        type=float,
        metavar="SECONDS",
        help="with --cluster: wait so long for a node that went away with an item; default: 120",
    )
    parser.add_argument(
        "--max-tokens",
        type=int,
        metavar="N",
        help="start nothing more once all results together have used so many tokens",
    )
    parser.add_argument(
        "--max-failures",
        type=int,
        metavar="N",
        help="start nothing more once so many items have failed",
    )
    _add_document_flags(parser)
    _add_output_file(parser)


def _add_generator_flags(parser: argparse.ArgumentParser) -> None:
    """Requests that follow from few words, instead of a file."""
    group = parser.add_argument_group("requests that need no file")
    group.add_argument(
        "--review-range", metavar="A..B", help="a review of each commit of A..B"
    )
    group.add_argument(
        "--review-prs",
        metavar="LIST",
        help="a review of each pull request: numbers or addresses with commas between them, or @FILE with one a line",
    )
    group.add_argument(
        "--audit",
        metavar="GLOB",
        help="a review of whole files: of each tracked one that matches",
    )
    group.add_argument(
        "--per",
        choices=("commit", "file", "directory"),
        help="what one review is of: for --audit file or directory; default: file",
    )
    group.add_argument(
        "--delegate",
        metavar="TASK",
        help="the same task for each of --repos; - reads it from standard input",
    )
    group.add_argument(
        "--repos",
        metavar="LIST",
        help="directories or addresses with commas between them, or @FILE with one a line",
    )
    group.add_argument(
        "--arguments",
        metavar="JSON",
        help="an object of arguments that each of these requests gets too",
    )


def _findings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        nargs="?",
        default="list",
        choices=FINDING_ACTIONS,
        metavar="ACTION",
        help="what to do, see below; default: list",
    )
    parser.add_argument(
        "id",
        nargs="?",
        metavar="ID",
        help="the id of the finding, or its first digits, 4 or more",
    )
    parser.add_argument(
        "--by",
        metavar="NAME",
        default="command line",
        help="who decides; default: command line",
    )
    parser.add_argument(
        "--state",
        choices=(*FINDING_STATES, "all"),
        help="list those in this state; default: open, accepted and rejected ones",
    )
    parser.add_argument(
        "--file", metavar="PATH", help="list those of this file or folder"
    )
    parser.add_argument(
        "--limit",
        metavar="N",
        type=int,
        help="maximum number of findings in a list; default: 50",
    )


def _cancel(parser: argparse.ArgumentParser) -> None:
    _add_job_id(parser, "the newest run of this directory that has not ended")


def _transfer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "transcript_path",
        nargs="?",
        metavar="SESSION",
        help="the id of the session, or its file; default: the newest session of this directory",
    )


def _gate(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    install = actions.add_parser(
        "install", help="add the hook to your settings of Claude Code"
    )
    remove = actions.add_parser("remove", help="remove the hook from the settings")
    actions.add_parser(
        "status",
        help="show where the hook is installed, and whether its program exists",
    )
    run = actions.add_parser(
        "run", help="the hook itself: reads the event from standard input"
    )
    for action in (install, remove):
        action.add_argument(
            "--project",
            action="store_true",
            help="for the current directory alone: .claude/settings.local.json",
        )
    for action in (install, run):
        least = (
            "a finding of this severity or a higher one blocks the end of the turn; default: that of the project file, "
            "else high"
        )
        action.add_argument("--fail-on", choices=GATE_SEVERITIES, help=least)
        rounds = "how many times one turn may be blocked; default: 1"
        action.add_argument(
            "--rounds", type=int, choices=(1, 2, 3), default=1, help=rounds
        )


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish"
    )


def _uninstall(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--keep-results", action="store_true", help="keep the runs with their results"
    )
    parser.add_argument(
        "--end-runs", action="store_true", help="first end the runs that have not ended"
    )


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--background",
        action="store_true",
        help="print the job id and return at once; `result --wait` fetches the answer",
    )
    _add_output_file(parser)


def _add_context_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--context-file", metavar="FILE", help="a file whose text is sent along"
    )


def _add_review_flags(parser: argparse.ArgumentParser) -> None:
    _add_run_flags(parser)
    _add_document_flags(parser)


def _add_document_flags(parser: argparse.ArgumentParser) -> None:
    """How a review is printed, and when it counts as not clean."""
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="the format of a review; a run that failed is a valid document too; default: text",
    )
    parser.add_argument(
        "--fail-on",
        choices=FAIL_ON,
        help="exit code 1 for a finding of this severity or a higher one, whatever the verdict; default: that of the "
        "project file, else high",
    )
    parser.add_argument(
        "--new-only",
        action="store_true",
        help="let only findings count that no earlier review raised, and those that came back",
    )


def _add_output_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output",
        action="append",
        metavar="[FORMAT=]FILE",
        help="write the result, or the failure, to a file; with FORMAT= in that format, beside what is printed; "
        "may be repeated",
    )


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="print the envelope as JSON"
    )
    parser.add_argument(
        "--color",
        choices=COLOURS,
        default="auto",
        help="default: auto, that is on a terminal, unless NO_COLOR is set",
    )
    parser.add_argument(
        "-q",
        "--quiet",
        action="store_true",
        help="print only the result: no progress, no notes",
    )


def _add_result(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "result",
        metavar="RESULT",
        help="a job id, or its first digits; a file that `review --json` wrote; or - for standard input",
    )


def _add_job_id(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "job_id",
        nargs="?",
        metavar="JOB",
        help=f"the job id, or its first digits; default: {default}",
    )


VERBS = (
    Verb(
        "mcp",
        "serve the tools over stdio to an MCP client",
        add_arguments=_mcp,
        prints_envelope=False,
    ),
    Verb(
        "status",
        "check whether Codex can be used here; costs nothing",
        Status,
    ),
    Verb(
        "demo",
        "consult, review and delegate on a sample repository, with a scripted model; needs no login",
        add_arguments=_demo,
        prints_envelope=False,
        epilog="exit codes: 0 done; 1 the sandbox did not behave as promised; "
        "others as `codex-counsel --help` lists them",
    ),
    Verb(
        "consult",
        "ask a question about the project",
        Consult,
        positional=("question",),
        add_input=_consult_input,
        add_arguments=_add_run_flags,
        epilog=EXIT_CODE_LIST,
    ),
    Verb(
        "review",
        "have changes of the repository reviewed",
        ReviewChanges,
        positional=("paths",),
        add_input=_review_input,
        add_arguments=_review,
        epilog=SCOPES_HELP + EXIT_CODE_LIST,
    ),
    Verb(
        "plan",
        "have a plan reviewed, before it is built",
        ReviewPlan,
        positional=("plan", "plan_path"),
        add_input=_plan_input,
        add_arguments=_add_review_flags,
        epilog=EXIT_CODE_LIST,
    ),
    Verb(
        "delegate",
        "have a task done in a temporary copy; returns a diff",
        Delegate,
        positional=("task",),
        add_input=_delegate_input,
        add_arguments=_delegate,
        epilog=EXIT_CODE_LIST,
    ),
    Verb(
        "pack",
        "write a request to a file, with all that it needs to be run on another machine; costs nothing",
        prints_envelope=False,
        packs=True,
    ),
    Verb(
        "apply",
        "apply the diff of a delegated task to your files, or take it back",
        Apply,
        positional=("job_id",),
        add_arguments=_apply,
        epilog=EXIT_CODE_LIST,
    ),
    Verb(
        "models",
        "list the models and efforts of the installed Codex",
    ),
    Verb(
        "jobs",
        "list the runs of this directory",
        JobList,
        add_arguments=_jobs,
    ),
    Verb(
        "usage",
        "show what runs took: tokens, minutes, outcomes; costs nothing",
        add_arguments=_usage,
    ),
    Verb(
        "result",
        "print the result of a run",
        add_arguments=_result,
        epilog=EXIT_CODE_LIST,
    ),
    Verb(
        "run",
        "run on this machine what `pack` has packed on another",
        add_arguments=_run_pack,
        epilog=RUN_HELP + EXIT_CODE_LIST,
    ),
    Verb(
        "take",
        "put results of other machines among the runs of this one; costs nothing",
        add_arguments=_take,
    ),
    Verb(
        "check",
        "say whether a stored review passes; asks no model and costs nothing",
        add_arguments=_check,
        epilog="exit codes:\n"
        "  0    pass\n"
        "  1    fail: a finding at or above --fail-on\n"
        "others  inconclusive, with the code that `codex-counsel --help` lists for the reason",
    ),
    Verb(
        "comment",
        "put a stored review on its pull request, as one comment that the next review replaces",
        add_arguments=_comment,
    ),
    Verb(
        "compare",
        "compare the diffs of tasks, or of the attempts at one; costs nothing",
        add_arguments=_compare,
        epilog=EXIT_CODE_LIST,
    ),
    Verb(
        "batch",
        "run many requests, each one time, and go on after an interrupt, a limit or a crash",
        add_arguments=_batch,
        epilog=BATCH_HELP + EXIT_CODE_LIST,
    ),
    Verb(
        "findings",
        "list what reviews found, and reject or accept a finding; costs nothing",
        Findings,
        positional=("action", "id"),
        add_arguments=_findings,
        epilog=FINDINGS_HELP + "exit codes: `codex-counsel --help` lists them",
    ),
    Verb(
        "cancel",
        "end a run and all its processes",
        add_arguments=_cancel,
    ),
    Verb(
        "transfer",
        "copy a session of Claude Code into a Codex thread",
        Transfer,
        positional=("transcript_path",),
        add_arguments=_transfer,
    ),
    Verb(
        "gate",
        "an optional review at the end of each turn of Claude Code",
        add_arguments=_gate,
        prints_envelope=False,
        epilog="exit codes: 0 done; 1 the gate is not installed, or its settings could not be changed",
    ),
    Verb(
        "completion",
        "print the script by which a shell completes verbs, flags, runs, findings and refs",
        add_arguments=_completion,
        prints_envelope=False,
        epilog=COMPLETION_HELP,
    ),
    Verb(
        "uninstall",
        "remove what codex-counsel keeps on this machine; asks first",
        add_arguments=_uninstall,
        prints_envelope=False,
        epilog="exit codes: 0 done; 1 something could not be removed; 2 nothing was removed",
    ),
)
