"""The kinds of fault as rules: what code scanning shows of each beside its findings."""

from __future__ import annotations

from typing import NamedTuple

from codex_counsel.contract.envelope import Finding
from codex_counsel.contract.vocabulary import Category

PREFIX = "codex/"


class Rule(NamedTuple):
    """`short` is a phrase, `full` a sentence on what the fault does, `help` one on what to look at."""

    name: str
    short: str
    full: str
    help: str


RULES: dict[Category, Rule] = {
    "logic": Rule(
        "WrongResult",
        "Wrong result",
        "The code computes, decides or stores something other than what it is meant to.",
        "Follow the finding's example by hand, and add a test with its values.",
    ),
    "crash": Rule(
        "Crash",
        "Crash",
        "The program ends, or a call fails, on input or in a state that occurs.",
        "Handle the named input or state, or refuse it where it comes in.",
    ),
    "data_loss": Rule(
        "DataLoss",
        "Loss or damage of data",
        "Data of users is deleted, overwritten, cut or stored wrongly.",
        "Do not merge before it is clear what happens to data that exists, and whether there is a way back.",
    ),
    "security": Rule(
        "SecurityHole",
        "Security hole",
        "Somebody can read, change or run what is not theirs, or a check can be passed by.",
        "Find out who controls the named input, and close the path where it enters.",
    ),
    "concurrency": Rule(
        "Concurrency",
        "Race or deadlock",
        "Two things that happen at the same time give a wrong result, or wait for each other.",
        "Look for the order of steps that the finding names, and make it impossible.",
    ),
    "error_handling": Rule(
        "ErrorHandling",
        "Missing or wrong error handling",
        "A failure is not noticed, is hidden, or leaves things half done.",
        "Decide what the caller is told, and what is put back, when the named step fails.",
    ),
    "resource_leak": Rule(
        "ResourceLeak",
        "Leak of a resource",
        "A file, connection, process, lock or memory is kept for longer than it is needed.",
        "Give it back on every path, also where an error is raised.",
    ),
    "compatibility": Rule(
        "Incompatibility",
        "Break of compatibility",
        "Callers, stored data, configurations or platforms that worked do not work any more.",
        "Search for who relies on the old behaviour, or offer both for a time.",
    ),
    "performance": Rule(
        "Performance",
        "Slow or costly",
        "Time, memory or calls grow so that people will notice.",
        "Measure it with the sizes that the finding names.",
    ),
    "missing_step": Rule(
        "MissingStep",
        "Missing step",
        "Something that the change, its plan or its message promises is not there.",
        "Add the step, or take the promise back.",
    ),
    "test": Rule(
        "WeakTest",
        "Missing or weak test",
        "A test cannot fail, tests something else, or is missing where the risk is.",
        "Break the code on purpose, and see whether the test notices.",
    ),
    "documentation": Rule(
        "WrongDocumentation",
        "Wrong documentation",
        "A text says something that does not hold for the code.",
        "Change the text or the code, so that they agree.",
    ),
    "configuration": Rule(
        "WrongConfiguration",
        "Wrong configuration",
        "A setting, a build file or a pipeline does not do what it is meant to.",
        "Run it where it is used, with the values that are used there.",
    ),
    "other": Rule(
        "Other",
        "Another fault",
        "A fault of another kind, or one whose kind was not recorded.",
        "Read the finding.",
    ),
}


def rule_id(finding: Finding) -> str:
    """`codex/logic`. A finding that an earlier release stored has no category, and is of the rule `codex/other`."""
    return f"{PREFIX}{category_of(finding)}"


def category_of(finding: Finding) -> Category:
    """The kind of fault; `other` where none was recorded."""
    return finding.category or "other"
