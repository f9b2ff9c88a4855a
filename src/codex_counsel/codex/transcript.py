"""What a run has said so far: events folded into the few things an envelope and a progress line need."""

from __future__ import annotations

from dataclasses import dataclass, field

from codex_counsel.codex import events
from codex_counsel.codex.failures import SANDBOX_BROKEN
from codex_counsel.contract.vocabulary import Phase
from codex_counsel.system.redact import mask

MAX_WARNINGS = 10
_IDLE_WARNINGS = ("unrecognized configuration setting", "Reading additional input")


@dataclass(frozen=True)
class Command:
    command: str
    exit_code: int | None
    blocked: bool


@dataclass
class Transcript:
    thread_id: str | None = None
    messages: list[str] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notice: str | None = None
    tokens: events.Tokens | None = None
    failure: str | None = None
    completed: bool = False
    open_commands: dict[str, str] = field(default_factory=dict)

    @property
    def answer(self) -> str | None:
        """The last message; interim and final ones look the same."""
        return next((text for text in reversed(self.messages) if text.strip()), None)

    @property
    def phase(self) -> Phase:
        if self.completed or self.failure:
            return "finishing"
        if not self.thread_id:
            return "starting"
        return "command" if self.open_commands else "thinking"

    @property
    def last_command(self) -> str | None:
        running = list(self.open_commands.values())
        return running[-1] if running else (self.commands[-1].command if self.commands else None)

    @property
    def sandbox_broken(self) -> bool:
        """Every command failed at setting up the sandbox: what was answered was answered blind."""
        return bool(self.commands) and all(command.blocked for command in self.commands)

    def add(self, event: events.Event) -> bool:
        """Fold one event in; true when it was a sign of life."""
        match event:
            case events.ThreadStarted(thread_id):
                self.thread_id = thread_id
            case events.Message(text):
                self.messages.append(text)
            case events.CommandStarted(item, command):
                self.open_commands[item] = mask(command)[0]
            case events.CommandEnded():
                self._ended(event)
            case events.Warned(message):
                self._warn(mask(message)[0])
            case events.Notice(message):
                self.notice = mask(message)[0]
            case events.TurnCompleted(tokens):
                self.tokens, self.completed = tokens, True
            case events.TurnFailed(message):
                self.failure = message
        return not isinstance(event, events.Noise)

    def _ended(self, event: events.CommandEnded) -> None:
        self.open_commands.pop(event.item, None)
        blocked = bool(event.exit_code and SANDBOX_BROKEN.search(event.output[:4000]))
        self.commands.append(Command(mask(event.command)[0], event.exit_code, blocked))

    def _warn(self, message: str) -> None:
        fresh = message not in self.warnings and len(self.warnings) < MAX_WARNINGS
        if fresh and not any(words in message for words in _IDLE_WARNINGS):
            self.warnings.append(message)
