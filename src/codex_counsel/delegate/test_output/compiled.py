"""Rust, Go, Java, C and Perl: tests that are compiled first, or print as the Test Anything Protocol."""

from __future__ import annotations

import re

from codex_counsel.delegate.test_output.model import (
    OTHER,
    FailureKind,
    Output,
    of_exception,
    quoted,
)

NEAR = 30

_CARGO_END = re.compile(r"error: (?:\d+ targets? failed|test failed, to rerun pass )")
_CARGO_PANIC = re.compile(r"thread '.*?' (?:\(\d+\) )?panicked at (.*)$")
_CARGO_COMPILE = re.compile(r"error: could not compile `")
_CARGO_OBSTACLE = re.compile(
    r"error: (?:no matching package named |failed to get `|failed to download |Unable to update |no such command: "
    r"|could not find `Cargo\.toml`|no test target named |rustup |toolchain |failed to load source for dependency )"
)
_GO_FAILED = re.compile(r"--- FAIL: ")
_GO_END = re.compile(r"FAIL(?:\t\S+\t[\d.]+s)?$")
_GO_UNBUILT = re.compile(r"FAIL\t\S+ \[(?:build|setup) failed\]$")
_GO_PANIC = re.compile(r"panic: ")
_GO_ROUTINE = re.compile(r"goroutine \d+ ")
_GO_COMMAND = re.compile(r"go: ")
_GO_OBSTACLE = re.compile(
    r"go: (?!downloading )|.*(?:no required module provides package|cannot find package|dial tcp: )"
)
_JAVA_THROWN = re.compile(r'Exception in thread ".*?" ([\w.$]+)(?::|$)')
_JAVA_CLASS = re.compile(r"Error: Could not find or load main class ")
_JAVA_COMPILE = re.compile(r"(?:error: compilation failed|\d+ errors?)$")
_JAVA_ERROR = re.compile(r"\S+\.(?:java|kt):\d+: error: ")
_MAVEN = re.compile(r"\[ERROR\](?: |$)")
_MAVEN_COMPILE = re.compile(r"\[ERROR\] COMPILATION ERROR")
_MAVEN_OBSTACLE = re.compile(
    r"\[ERROR\] (?:.*Could not resolve dependencies|.*could not be resolved|.*Cannot access \S+ .* in offline mode"
    r"|.*there is no POM in this directory|No plugin found for prefix|Unknown lifecycle phase)"
)
_SUREFIRE = re.compile(r"\[ERROR\] Tests run: \d+, Failures: (\d+), Errors: (\d+)")
_SUREFIRE_NAME = re.compile(r"\[ERROR\] +\S+:\d+ » (\w+)")
_C_ASSERT = re.compile(r".*: Assertion `.*' failed\.$")
_C_COMPILE = re.compile(r"\S+:\d+:\d+: (?:fatal )?error: |collect2: error: ")
_PERL_MODULE = re.compile(r"Can't locate \S+ in @INC ")
_PERL_COMPILE = re.compile(r"BEGIN failed--compilation aborted")
_TAP_PLAN = re.compile(r"1\.\.\d+$")
_TAP_FAILED = re.compile(r"not ok \d+")


def cargo(output: Output) -> FailureKind | None:
    """A run of `cargo test`."""
    if output.exit != 101:
        return None
    if output.near_end(_CARGO_END, 3):
        return _first_panic(output)
    if output.near_end(_CARGO_COMPILE, NEAR):
        return FailureKind("broken_test")
    obstacle = output.near_end(_CARGO_OBSTACLE, NEAR)
    if obstacle:
        return FailureKind(
            "not_started", obstacle=f"cargo says: {quoted(obstacle.string)}"
        )
    return _first_panic(output)


def _first_panic(output: Output) -> FailureKind:
    for number, line in enumerate(output.lines):
        panic = _CARGO_PANIC.match(line)
        if panic:
            # Up to 1.72 the message stands in the same line.
            message = output.lines[number + 1 : number + 2]
            if panic[1].startswith("'"):
                message = [panic[1][1:]]
            is_assertion = bool(message) and message[0].startswith("assertion ")
            if is_assertion:
                return FailureKind("assertion", "panic")
            return FailureKind("exception", "panic")
    return OTHER


def go(output: Output) -> FailureKind | None:
    """A run of `go test`, or a Go program that panicked."""
    everywhere = len(output.lines)
    is_panic = bool(output.near_end(_GO_PANIC, everywhere))
    if is_panic and output.near_end(_GO_ROUTINE, everywhere):
        return FailureKind("exception", "panic")
    if output.exit != 1:
        return None
    if output.near_end(_GO_UNBUILT, 3):
        obstacle = output.near_end(_GO_OBSTACLE, NEAR)
        said = quoted(obstacle.string) if obstacle else ""
        return FailureKind("broken_test", obstacle=said)
    if output.near_end(_GO_END, 2) and output.near_end(_GO_FAILED, everywhere):
        return FailureKind("assertion")
    if _GO_COMMAND.match(output.last):
        return FailureKind("not_started", obstacle=quoted(output.last))
    return None


def java(output: Output) -> FailureKind | None:
    """A Java program, its compiler, or a run of Maven."""
    if output.exit != 1:
        return None
    unknown = output.near_end(_JAVA_CLASS, 3)
    if unknown:
        return FailureKind("not_started", obstacle=quoted(unknown.string))
    is_error_listed = bool(output.near_end(_JAVA_ERROR, len(output.lines)))
    if is_error_listed and output.near_end(_JAVA_COMPILE, 1):
        return FailureKind("broken_test")
    if _MAVEN.match(output.last):
        return _maven(output)
    thrown = output.near_end(_JAVA_THROWN, NEAR)
    return of_exception(thrown[1]) if thrown else None


def _maven(output: Output) -> FailureKind | None:
    end = output.near_end(_SUREFIRE, len(output.lines))
    if end:
        name = output.near_end(_SUREFIRE_NAME, len(output.lines))
        if int(end[1]) > 0:
            return FailureKind("assertion", "AssertionError")
        return FailureKind("exception", name[1] if name else None)
    if output.near_end(_MAVEN_COMPILE, len(output.lines)):
        return FailureKind("broken_test")
    obstacle = output.near_end(_MAVEN_OBSTACLE, NEAR)
    if obstacle:
        said = quoted(obstacle.string.removeprefix("[ERROR] "))
        return FailureKind("not_started", obstacle=f"Maven says: {said}")
    return None


def c(output: Output) -> FailureKind | None:
    """A program in C that ended itself by `assert`, or its compiler."""
    if output.exit == 134 and output.near_end(_C_ASSERT, 3):
        return FailureKind("assertion", "assert")
    if output.exit in (1, 2) and output.near_end(_C_COMPILE, 8):
        return FailureKind("broken_test")
    return None


def tap(output: Output) -> FailureKind | None:
    """A failed run that printed as the Test Anything Protocol, and Perl, which often does."""
    if output.near_end(_PERL_COMPILE, 1):
        module = output.near_end(_PERL_MODULE, 4)
        obstacle = quoted(module.string) if module else ""
        return FailureKind("broken_test", obstacle=obstacle)
    is_tap = bool(output.near_end(_TAP_PLAN, len(output.lines)))
    if is_tap and output.near_end(_TAP_FAILED, len(output.lines)):
        return FailureKind("assertion")
    return None
