"""The events of a run folded into what its envelope and its progress line need.

Commands, warnings and notices are masked here; the answer and the failure are masked
where they are used. A run of any length is held in bounded memory: the last message, the
last commands, and the beginnings of long texts.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from codex_counsel.codex import events
from codex_counsel.codex.failures import SANDBOX_BROKEN
from codex_counsel.contract.vocabulary import Phase
from codex_counsel.system.redact import mask

MAX_WARNINGS = 10
MAX_COMMANDS = 50
"""Finished commands that are kept, the last ones; and as many that still run."""
MAX_TEXT = 10_000
"""Characters that are kept of a command, a warning or a notice."""

_OWN_WARNINGS = ("unrecognized configuration setting", "Reading additional input")
"""What Codex says about our own options: older releases do not know each of them."""

_SANDBOX_ERROR_WITHIN = 4000
"""Characters of a command's output that are searched: the sandbox fails before the command prints anything."""


@dataclass(frozen=True)
class Command:
    """A command that the model ran. `blocked` means that it failed because Codex's sandbox could not be set up."""

    command: str
    exit_code: int | None
    blocked: bool


@dataclass
class Transcript:
    """What a run has done so far.

    `answer` is the last message that is not blank: Codex does not mark which message is
    the final one. `answer_lost` means that a line after it may have been a later
    message and could not be read. `notice` is Codex's latest sentence about a retry.
    `failure` is the message of a failed turn. `open_commands` maps the ids of running
    commands to their command lines.

    A thread that is started again is one whose turn was ended for its budget: from then
    on `is_last_turn` holds, and `answer` is that of the new turn. `interim` is the last
    message of the turn before. `turns` are those that began.
    """

    thread_id: str | None = None
    answer: str | None = None
    answer_lost: bool = False
    commands: deque[Command] = field(default_factory=lambda: deque(maxlen=MAX_COMMANDS))
    warnings: list[str] = field(default_factory=list)
    notice: str | None = None
    tokens: events.Tokens | None = None
    failure: str | None = None
    completed: bool = False
    open_commands: dict[str, str] = field(default_factory=dict)
    interim: str | None = None
    is_last_turn: bool = False
    turns: int = 0
    _has_working_command: bool = False

    @property
    def phase(self) -> Phase:
        """Where the run stands."""
        if self.is_over:
            return "finishing"
        if not self.thread_id:
            return "starting"
        if self.is_last_turn:
            return "answering"
        if self.open_commands:
            return "command"
        return "thinking"

    @property
    def last_command(self) -> str | None:
        """The command that runs, or else the one that ended last."""
        if self.open_commands:
            return list(self.open_commands.values())[-1]
        if self.commands:
            return self.commands[-1].command
        return None

    @property
    def is_over(self) -> bool:
        """Whether the turn has ended, well or not."""
        return self.completed or self.failure is not None

    @property
    def last_message(self) -> str | None:
        """The last message of the run, the answer or not."""
        return self.answer or self.interim

    @property
    def sandbox_broken(self) -> bool:
        """Whether every command failed at setting up the sandbox: the model answered without seeing any file."""
        return bool(self.commands) and not self._has_working_command

    def add(self, event: events.Event) -> bool:  # noqa: C901  # one for each type
        """Fold one event in; true when it is a sign of life, false for a line that is no event."""
        match event:
            case events.ThreadStarted(thread_id):
                if self.thread_id:
                    self._begin_last_turn()
                self.thread_id = thread_id
            case events.TurnStarted():
                self.turns += 1
            case events.Message(text) if text.strip():
                self.answer = text
                self.answer_lost = False
            case events.Damaged() | events.OtherItem("agent_message"):
                # The second is a message that had not ended yet.
                self.answer_lost = self.answer_lost or not self.completed
            case events.CommandStarted(item, command):
                self._add_open_command(item, command)
            case events.CommandEnded():
                self._add_command(event)
            case events.ItemWarning(message):
                self._add_warning(message)
            case events.Notice(message):
                self.notice = _short(message)
            case events.TurnCompleted(tokens):
                self.tokens = tokens
                self.completed = True
            case events.TurnFailed(message):
                self.failure = message
        return not isinstance(event, events.Noise | events.Damaged)

    def _begin_last_turn(self) -> None:
        self.is_last_turn = True
        self.interim = self.answer
        self.answer = None
        self.answer_lost = False
        for command in self.open_commands.values():
            self.commands.append(Command(command, None, blocked=False))
            # The sandbox fails at once, and this one was still running.
            self._has_working_command = True
        self.open_commands.clear()

    def _add_open_command(self, item: str, command: str) -> None:
        self.open_commands[item] = _short(command)
        if len(self.open_commands) > MAX_COMMANDS:
            oldest = next(iter(self.open_commands))
            del self.open_commands[oldest]

    def _add_command(self, event: events.CommandEnded) -> None:
        self.open_commands.pop(event.item, None)
        blocked = False
        if event.exit_code:
            blocked = bool(SANDBOX_BROKEN.search(event.output[:_SANDBOX_ERROR_WITHIN]))
        if not blocked:
            self._has_working_command = True
        command = _short(event.command)
        self.commands.append(Command(command, event.exit_code, blocked))

    def _add_warning(self, message: str) -> None:
        warning = _short(message)
        if warning in self.warnings or len(self.warnings) >= MAX_WARNINGS:
            return
        if not any(words in warning for words in _OWN_WARNINGS):
            self.warnings.append(warning)


def decides_answer(event: events.Event) -> bool:
    """Whether the event changes which text the answer is, or whether there is one."""
    match event:
        case events.Message(text):
            return bool(text.strip())
        case events.Damaged() | events.OtherItem("agent_message"):
            return True
    return False


def _short(text: str) -> str:
    # Masked first: a token that is cut has no shape any more.
    masked, _ = mask(text)
    return masked[:MAX_TEXT]
