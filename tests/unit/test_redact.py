"""Secrets are known by the names of files and by the shapes of tokens; nothing else is touched."""

from __future__ import annotations

import sys

import pytest

from codex_counsel.system.redact import mask, mask_bytes
from codex_counsel.system.secret_names import secret_name

SECRET = [
    ".env",
    ".ENV",
    "config/.env.local",
    ".env.production",
    ".envrc",
    ".envrc.local",
    ".env_prod",
    ".env~",
    "secrets.env.swp",
    "dist.p12",
    "ios-dist.p8",
    "dist.pem",
    "example.com.key",
    "server.schema.key",
    "id_rsa.bak",
    "id_rsa.old",
    ".id_rsa.swp",
    "server.key.orig.save",
    ".htpasswd~",
    ".aws/credentials.bak",
    "prod.env",
    "id_rsa",
    "keys/id_ed25519",
    "server.pem",
    "tls/host.key",
    "a.p12",
    "a.pfx",
    "a.jks",
    "vault.kdbx",
    ".netrc",
    "_netrc",
    ".pypirc",
    ".pgpass",
    ".npmrc",
    "credentials.json",
    ".aws/credentials",
    "home/.aws/config",
    ".ssh/config",
    ".ssh/known_hosts",
    ".gnupg/pubring.kbx",
    ".kube/config",
    ".docker/config.json",
    "terraform.tfstate",
    "terraform.tfstate.backup",
    "prod.tfvars",
    "secrets.yaml",
    ".git-credentials",
    ".config/gh/hosts.yml",
    ".cargo/credentials.toml",
    "client_secret_1.json",
]
OPEN = [
    ".env.example",
    ".env.sample",
    ".env.template",
    ".env.dist",
    "config/.env.local.example",
    "example.env",
    "id_rsa.pub",
    "monkey.py",
    "keys.py",
    "environment.ts",
    "docs/ssh/config.md",
    "kube/config",
    "docker/config.json",
    "credentials.py",
    "secrets.py",
    "terraform.tf",
    "tokenizer.json",
    "package.json",
    "envelope.py",
    "prod.tfvars.example",
    ".env.example~",
    "app.py.bak",
    "notes.old",
]


@pytest.mark.parametrize("path", SECRET)
def test_file_named_like_a_secret_is_withheld(path: str) -> None:
    assert secret_name(path)


@pytest.mark.parametrize("path", OPEN)
def test_file_named_like_no_secret_is_open(path: str) -> None:
    assert secret_name(path) is None


def letters(count: int) -> str:
    return ("aB3dE5gH7jK9mN1pQ4sT" * (count // 20 + 1))[:count]


TOKENS = {
    "openai-key": f"sk-{letters(48)}",
    "openai-key of a project": f"sk-proj-{letters(20)}_-{letters(60)}",
    "anthropic-key": f"sk-ant-api03-{letters(80)}",
    "github-token": f"ghp_{letters(36)}",
    "github-token of an app": f"ghs_{letters(36)}",
    "github-token fine-grained": f"github_pat_{letters(22)}_{letters(59)}",
    "gitlab-token": f"glpat-{letters(20)}",
    "aws-key": "AKIAIOSFODNN7EXAMPLE",
    "google-key": f"AIza{letters(35)}",
    "slack-token": "xoxb-123456789012-abcdefABCDEF",
    "stripe-key": f"sk_live_{letters(24)}",
    "npm-token": f"npm_{letters(36)}",
    "pypi-token": f"pypi-AgEIcHlwaS5vcmc{letters(80)}",
    "huggingface-token": f"hf_{letters(34)}",
    "jwt": f"eyJhbGciOiJIUzI1NiJ9.eyJ{letters(30)}.{letters(43)}",
    "sendgrid-key": f"SG.{letters(22)}.{letters(43)}",
}


@pytest.mark.parametrize("kind", TOKENS)
def test_token_is_masked_by_kind_and_counted(kind: str) -> None:
    expected = f'key = "[masked:{kind.split(maxsplit=1)[0]}]"  # note'
    assert mask(f'key = "{TOKENS[kind]}"  # note') == (expected, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f"aws_secret_access_key = {letters(40)}",
            "aws_secret_access_key = [masked:aws-secret]",
        ),
        (
            f'"SecretAccessKey": "{letters(40)}"',
            '"SecretAccessKey": "[masked:aws-secret]"',
        ),
        (
            f"Authorization: Bearer {letters(30)}",
            "Authorization: Bearer [masked:authorization]",
        ),
        ("postgres://me:hunter2@db/x", "postgres://me:[masked:url-password]@db/x"),
        ("redis://:hunter2@db", "redis://:[masked:url-password]@db"),
        (
            "https://hooks.slack.com/services/T01234567/B01234567/abcdefghijkl",
            "https://hooks.slack.com/services/[masked:slack-webhook]",
        ),
    ],
)
def test_what_stands_before_a_secret_stays(text: str, expected: str) -> None:
    assert mask(text) == (expected, 1)


@pytest.mark.parametrize(
    "text",
    [
        "commit 08006744b0adaa6f5985078acc351dfea4762b2b",
        "class='sk-folding-cube sk-three-bounce-and-some-more-words-behind'",
        f"data:image/png;base64,{letters(400)}",
        "risk-taking-is-not-a-key-but-a-long-hyphenated-word-of-letters",
        "http://localhost:8080/@scope and git@github.com:a/b.git",
        "postgres://${USER}:${PASSWORD}@host and https://{user}:{password}@host",
        'if "-----BEGIN PRIVATE KEY-----" in text:\n    return True\n',
        "Bearer authentication-is-described-in-the-manual",
        "sha256-" + letters(44),
    ],
)
def test_harmless_text_is_left_alone(text: str) -> None:
    assert mask(text) == (text, 0)


KEY = "\n".join(
    [
        "-----BEGIN RSA PRIVATE KEY-----",
        *[letters(64)] * 3,
        "QUJDRA==",
        "-----END RSA PRIVATE KEY-----",
    ]
)


@pytest.mark.parametrize("prefix", ["", "+", "-", " ", "17\t", "+    "])
def test_private_key_is_masked_line_by_line(prefix: str) -> None:
    text = "\n".join(prefix + line for line in ["before", *KEY.split("\n"), "after"])
    masked, count = mask(text)
    body = [f"{prefix}[masked:private-key]"] * 4
    edges = [
        f"{prefix}-----BEGIN RSA PRIVATE KEY-----",
        *body,
        f"{prefix}-----END RSA PRIVATE KEY-----",
    ]
    assert (masked.split("\n"), count) == (
        [f"{prefix}before", *edges, f"{prefix}after"],
        1,
    )


def test_private_key_of_which_a_hunk_shows_only_the_end_is_masked() -> None:
    masked, count = mask("\n".join(["+" + line for line in KEY.split("\n")[2:]]))
    assert letters(64) not in masked
    assert count == 1


def test_private_key_cut_off_is_masked() -> None:
    masked, count = mask("\n".join(KEY.split("\n")[:3]))
    assert letters(64) not in masked
    assert count == 1


def test_private_key_in_one_quoted_line_is_masked() -> None:
    text = 'key = "' + KEY.replace("\n", "\\n") + '\\n"  # keep'
    expected = 'key = "-----BEGIN RSA PRIVATE KEY-----[masked:private-key]-----END RSA PRIVATE KEY-----\\n"  # keep'
    assert mask(text) == (expected, 1)


def test_masking_twice_changes_nothing_more() -> None:
    once = mask("\n".join([*TOKENS.values(), KEY, "a://b:secret@c"]))[0]
    assert mask(once) == (once, 0)


def test_lines_of_a_diff_are_kept() -> None:
    diff = "".join(
        f"{mark}token = '{token}'\r\n" for token in TOKENS.values() for mark in "+- "
    )
    masked, count = mask(diff)
    assert count == 3 * len(TOKENS)
    assert [line[:9] for line in masked.split("\n")] == [
        line[:9] for line in diff.split("\n")
    ]


def test_bytes_that_are_not_text_are_left_alone() -> None:
    noise = bytes(range(256))
    assert mask_bytes(noise + TOKENS["github-token"].encode() + b"\n" + noise) == (
        noise + b"[masked:github-token]\n" + noise,
        1,
    )


class Steps:
    """Counts the lines of Python executed, a measure of work that no busy machine bends."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *_: object) -> Steps:
        self.count += 1
        return self


def steps(text: str) -> int:
    counter = Steps()
    before = sys.gettrace()
    sys.settrace(counter)
    try:
        mask(text)
    finally:
        sys.settrace(before)
    return counter.count


@pytest.mark.parametrize(
    "seed",
    [
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\n\n",
        letters(64) + "\n-----END PRIVATE KEY-----\n",
    ],
)
def test_work_on_private_keys_grows_with_the_text_and_not_faster(seed: str) -> None:
    assert steps(seed * 2000) < 5 * steps(seed * 500)


@pytest.mark.parametrize(
    "seed",
    [
        "sk-",
        "eyJ",
        "eyJa",
        "://",
        "://a:",
        "ghp_",
        "Bearer ",
        "AKIA",
        "SG.",
        "SecretAccessKey=",
        "a",
    ],
)
def test_repeated_beginnings_of_tokens_end(seed: str) -> None:
    text = seed * (4_000_000 // len(seed))
    assert len(mask(text)[0]) > 0
