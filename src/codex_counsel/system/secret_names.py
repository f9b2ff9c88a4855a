"""Which files hold secrets, by their names: nothing is opened."""

from __future__ import annotations

import re

BACKUPS = re.compile(r"(?:~|\.(?:bak|old|orig|save|sw[op]))+\Z")
"""What editors and people append to the name of a file that they keep a copy of."""
_BACKUP_SUFFIXES = ("~", ".bak", ".old", ".orig", ".save", ".swo", ".swp")
"""What any match of `BACKUPS` ends with. Searching for the pattern itself takes longer than all other checks."""
SAMPLES = re.compile(
    r"(?:^|[._-])(?:example|sample|template|tmpl|dist|defaults|schema)(?:[._-]|$)"
)
"""Found in the name of a template, which holds no real values."""

SECRET_NAMES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("environment file", re.compile(r"\.env(?:rc)?(?:[._-].+)?|.*\.env|\.dev\.vars")),
    (
        "private key",
        re.compile(
            r"\.?id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?|.*\.(?:pem|key|p8|ppk)|secring\.gpg"
        ),
    ),
    ("key store", re.compile(r".*\.(?:p12|pfx|jks|keystore|kdbx|bcfks)")),
    ("infrastructure state", re.compile(r".*\.tfstate(?:\..+)?|.*\.tfvars(?:\.json)?")),
    (
        "credentials",
        re.compile(
            r"[._]netrc|\.pypirc|\.pgpass|\.npmrc|\.git-credentials|\.htpasswd|\.my\.cnf|\.s3cfg|\.boto|\.dockercfg"
            r"|\.vault-token|\.?vault[_-]pass(?:word)?(?:\.txt)?|\.?credentials\.json|kubeconfig"
            r"|secrets\.(?:ya?ml|json|toml)|client_secret.*\.json|service[_-]account.*\.json|local\.settings\.json"
            r"|application_default_credentials\.json"
        ),
    ),
)
"""Kinds of secret files, with the pattern of their names in lower case, without folder and backup suffix."""

SECRET_PATHS = re.compile(
    r"(?:^|/)(?:\.ssh/.+|\.gnupg/.+|\.aws/(?:credentials|config)|\.azure/.+|\.kube/config|\.docker/config\.json"
    r"|\.cargo/credentials(?:\.toml)?|\.gem/credentials|\.m2/settings\.xml|\.gradle/gradle\.properties"
    r"|\.config/(?:gcloud|gh|hub|op|doctl|rclone)/.+|\.codex/auth\.json|\.password-store/.+)"
)
"""Secret files by folder and name, in lower case."""


def secret_name(path: str) -> str | None:
    """The kind of secret that a file of this name holds, or None. A backup copy of a secret file is one, too.

    `path` may be a bare name. Templates of environment files, such as `.env.example`,
    are not secret; a key is, whatever its name.
    """
    lowered = path.lower()
    if lowered.endswith(_BACKUP_SUFFIXES):
        lowered = BACKUPS.sub("", lowered)
    if "/" in lowered and SECRET_PATHS.search(lowered):
        return "credentials"
    name = lowered.rpartition("/")[2]
    for kind, pattern in SECRET_NAMES:
        if pattern.fullmatch(name):
            is_sample = kind == "environment file" and SAMPLES.search(name)
            return None if is_sample else kind
    return None
