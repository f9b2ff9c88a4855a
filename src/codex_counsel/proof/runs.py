"""The runs of a test on several states of the repository. Exit codes of a proof are of these alone.

- The reviewed state with the test (`RUNS` times, and once more at the end), and without it (once).
- Where it fails there: the base of the change with the test; where there is no such base, or it does not pass there,
  the reviewed state with the replacement that the finding, or else the prover, proposes (`RUNS` times each).
- Where it passes: the reviewed state with the test and the code in question taken out (once).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from codex_counsel.contract.envelope import Suggestion
from codex_counsel.contract.vocabulary import ComparedState
from codex_counsel.delegate import seed
from codex_counsel.delegate.check_outcome import masked_line, outcome_of
from codex_counsel.delegate.failure_kind import failure_kind
from codex_counsel.delegate.sensitive import is_build_file, is_sensitive
from codex_counsel.delegate.shadow import ShadowGitError
from codex_counsel.delegate.states import States
from codex_counsel.findings.replacement import (
    MAX_LINES,
    is_harmless,
    lines_of,
    with_line_ends,
)
from codex_counsel.kind import CommandRun
from codex_counsel.proof import tree_objects
from codex_counsel.proof.disabling import variants
from codex_counsel.proof.judgement import (
    RUNS,
    Evidence,
    Observation,
    Result,
    always_fails_as,
    always_passes,
)
from codex_counsel.proof.record import Assignment
from codex_counsel.proof.reply import ASSERTION, ProverReply
from codex_counsel.system.redact import mask
from codex_counsel.system.text import visible

MAX_FILE = 16 * 1024 * 1024
"""Bytes of a file in which lines are replaced."""
SIGNALS = range(129, 193)
"""Exit codes of a shell for a program that a signal ended."""
RESULTS: dict[str, Result] = {"broken_test": "broken", "not_started": "not_started"}
"""What a run came to that did not get to the test, by the kind of its failure."""


@dataclass
class ProofRuns:
    """`reviewed` is a tree object, `patch` adds the test in `test_files`, `command` runs it.

    `head` are the runs on the reviewed state with the test, `others` the first runs on the
    states that it was compared with. `suggestion` is what the patched state was made with.
    """

    states: States
    reviewed: str
    patch: bytes
    assignment: Assignment
    reply: ProverReply
    command: str
    test_files: tuple[str, ...]
    head: list[CommandRun] = field(default_factory=list)
    others: dict[ComparedState, CommandRun] = field(default_factory=dict)
    suggestion: Suggestion | None = None

    def evidence(self) -> Evidence:
        """Run the test where that tells something. Raises CounselError and OSError for a state that cannot be made."""
        shadow = self.states.shadow
        with_test = shadow.apply_to_tree(self.reviewed, self.patch)
        head = self._several(self.states, with_test, self.head)
        evidence = Evidence(
            expected=self.reply.failure,
            says_wrong=self.reply.claim == "wrong",
            head=head,
        )
        if evidence.says_wrong and always_passes(head):
            evidence = replace(
                evidence,
                without_test=self._once(self.states, self.reviewed),
                disabled=self._disabled(with_test),
            )
            return self._once_more(evidence, with_test)
        if evidence.says_wrong or not always_fails_as(head, evidence.expected):
            return evidence

        without_test = self._once(self.states, self.reviewed)
        base = self._on_base()
        patched: list[Observation] = []
        if not always_passes(base):
            patched = self._patched(with_test)
        evidence = replace(
            evidence, without_test=without_test, base=base, patched=patched
        )
        return self._once_more(evidence, with_test)

    def _once_more(self, evidence: Evidence, with_test: str) -> Evidence:
        """With a last run on the reviewed state: what made the difference was the state, and not the time."""
        last = self._once(self.states, with_test)
        return replace(evidence, head=[*evidence.head, last])

    # --- the states

    def _on_base(self) -> list[Observation]:
        """No runs where the base lacks the file of the finding, or has a file with the name of the test."""
        commit, shadow = self.assignment.base, self.states.shadow
        if commit is None:
            return []
        tree = shadow.git("rev-parse", "--verify", f"{commit}^{{tree}}").decode()
        tree = tree.strip()
        file = tree_objects.find_file(shadow, tree, self.assignment.file)
        if file is None or tree == self.reviewed:
            return []
        try:
            with_test = shadow.apply_to_tree(tree, self.patch)
        except ShadowGitError:
            return []
        # Secret files may be others than in the reviewed state.
        secrets = seed.same_secrets(shadow, with_test, with_test)
        states = replace(self.states, absent=tuple(secrets))
        runs: list[CommandRun] = []
        observed = self._several(states, with_test, runs)
        self.others["base"] = runs[0]
        return observed

    def _patched(self, with_test: str) -> list[Observation]:
        """No runs where no replacement is proposed that can be shown and applies."""
        shadow = self.states.shadow
        file = tree_objects.find_file(shadow, with_test, self.assignment.file)
        if file is None or file.size > MAX_FILE:
            return []
        lines = lines_of(tree_objects.content_of(shadow, file))
        self.suggestion = self.assignment.suggestion
        if self.suggestion is None and self.reply.suggestion:
            self.suggestion = _applicable(self.reply.suggestion, lines)
        if self.suggestion is None or self.suggestion.end_line > len(lines):
            return []
        lines[self.suggestion.start_line - 1 : self.suggestion.end_line] = [
            self.suggestion.replacement
        ]
        content = "".join(lines).encode()
        tree = tree_objects.with_content(shadow, with_test, file, content)
        runs: list[CommandRun] = []
        observed = self._several(self.states, tree, runs)
        self.others["patched"] = runs[0]
        return observed

    def _disabled(self, with_test: str) -> Observation | None:
        """The first run that is not broken. None where the finding has no line in a file that can be replaced."""
        shadow = self.states.shadow
        file = tree_objects.find_file(shadow, with_test, self.assignment.file)
        if file is None or not 0 < file.size <= MAX_FILE:
            return None
        content = tree_objects.content_of(shadow, file)
        observation = None
        for rest in variants(self.assignment.file, content, self.assignment.line):
            tree = tree_objects.with_content(shadow, with_test, file, rest)
            observation = self._once(self.states, tree)
            if observation.result != "broken":
                break
        return observation

    # --- runs

    def _several(
        self, states: States, tree: str, runs: list[CommandRun]
    ) -> list[Observation]:
        """At most `RUNS` runs on one state, which are added to `runs`: one that decides nothing is the last."""
        observations: list[Observation] = []
        while len(observations) < RUNS:
            run, observation = self._run(states, tree)
            runs.append(run)
            observations.append(observation)
            if not observation.decides:
                break
        return observations

    def _once(self, states: States, tree: str) -> Observation:
        return self._run(states, tree)[1]

    def _run(self, states: States, tree: str) -> tuple[CommandRun, Observation]:
        states.make(tree)
        before = states.file_stamps()
        run = states.execute(self.command)
        observation = observe(run, self.test_files)
        if observation.decides and _has_tampered(states, before):
            observation = Observation("tampered")
        return run, observation


def observe(run: CommandRun, test_files: Sequence[str] = ()) -> Observation:
    """What a run came to. `test_files` are the names of the files with the test."""
    if run.ended != "exited" or run.exit == 0:
        outcome = outcome_of(run)
        return Observation(outcome.status, detail=outcome.reason)
    if run.exit in SIGNALS:
        return Observation("killed")
    failure = failure_kind(run, test_files)
    names = {"assertion": ASSERTION, "exception": failure.name}
    result = RESULTS.get(failure.kind, "failed")
    return Observation(result, names.get(failure.kind), masked_line(failure.obstacle))


def _has_tampered(states: States, before: Mapping[bytes, tuple[int, ...]]) -> bool:
    """Whether the last run touched a file of its state, or made one that decides how programs run."""
    if states.file_stamps() != before:
        return True
    made = set(states.shadow.git("ls-files", "--others", "-z").split(b"\0"))
    # The links that show the environments of the user are ours.
    made -= {os.fsencode(place) for place, _ in states.environments}
    return any(is_build_file(name) or is_sensitive(name) for name in made)


def _applicable(proposed: Suggestion, lines: list[str]) -> Suggestion | None:
    """The replacement with the line ends of the file; None unless a reader can be shown all of it."""
    first, last = proposed.start_line, proposed.end_line
    if not 1 <= first <= last <= len(lines) or last - first >= MAX_LINES:
        return None
    before = lines[first - 1 : last]
    text = "".join(before)
    if not is_harmless(proposed.replacement) or mask(text)[1] or visible(text) != text:
        return None
    around = lines[max(first - 2, 0) : last]
    after = with_line_ends(proposed.replacement, around, before[-1])
    if after is None or after == text:
        return None
    return Suggestion(start_line=first, end_line=last, replacement=after)
