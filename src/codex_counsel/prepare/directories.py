"""The directories of this user: where things are kept, and which of them no run may see."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.codex.sandbox import why_closed
from codex_counsel.prepare import system_files
from codex_counsel.system.temporary import temporary_root

HOMES = (Path("/home"), Path("/Users"))
"""Where the home directories of other users lie."""

SYSTEM_DIRECTORIES = tuple(
    Path("/", name)
    for name in """
        bin boot dev etc lib lib32 lib64 libx32 proc run sbin snap sys usr var
        Library System private/etc private/var
    """.split()  # noqa: SIM905  # a list takes three times the room
)
TEMPORARY_DIRECTORIES = tuple(
    map(Path, ("/var/tmp", "/var/folders", "/private/var/tmp", "/private/var/folders"))  # noqa: S108
)
"""Parts of the system directories that are the users': a temporary file may be sent."""

CREDENTIALS = """
    .ssh .gnupg .putty .pki .aws .aws-vault .awsvault .saml2aws .azure .kube .docker .oci .aliyun
    .bluemix .codex .claude .claude.json .gemini/oauth_creds.json .local/share/opencode/auth.json
    .config/io.datasette.llm .mcp-auth .password-store .lastpass .local/share/lpass .keepassxc
    .config/keepassxc .config/op .config/1Password .config/Bitwarden .netrc .authinfo .authinfo.gpg
    .npmrc .pypirc .pgpass .pg_service.conf .git-credentials .gitcookies .config/git/credentials
    .vault-token .my.cnf .mylogin.cnf .boto .s3cfg .passwd-s3fs .databrickscfg .snowsql .snowflake
    .kaggle .config/kaggle .huggingface .cache/huggingface/token .cache/huggingface/stored_tokens .okta
    .subversion .cvspass .p4tickets .bash_history .zsh_history .sh_history .history .histfile
    .python_history .node_repl_history .psql_history .mysql_history .sqlite_history .rediscli_history
    .irb_history .Rhistory .lesshst .viminfo .bash_sessions .zsh_sessions .local/share/fish
    .local/share/atuin .config/atuin .config/pgcli .config/litecli .envrc .env .secrets .config/gcloud
    .config/gh .config/hub .config/glab-cli .config/tea .config/hut .config/doctl .config/rclone
    .config/stripe .config/fly .fly .config/sops .config/age .age .config/helm .config/github-copilot
    .config/configstore .config/hcloud .config/scw .config/linode-cli .config/openstack .config/ngrok
    .ngrok2 .config/argocd .argocd .config/pypoetry/auth.toml .config/containers/auth.json .cloudflared
    .wrangler .config/.wrangler .netlify .config/netlify .railway .vercel .local/share/com.vercel.cli
    .pulumi .terraform.d .terraformrc .tofurc .chef .minikube .step .circleci .travis .sentryclirc
    .condarc .arcrc .config/google-chrome .config/chromium .config/BraveSoftware .config/microsoft-edge
    .config/vivaldi .config/opera .config/Slack .config/discord .config/Signal .config/anthropic
    .config/openai .mozilla .thunderbird .local/share/keyrings .local/share/kwalletd .cargo/credentials
    .cargo/credentials.toml .gem/credentials .bundle/config .composer/auth.json
    .config/composer/auth.json .m2/settings.xml .m2/settings-security.xml .gradle/gradle.properties
    .nuget/NuGet .electrum .bitcoin .ethereum .monero .config/solana .near-credentials
    .foundry/keystores .erlang.cookie .rhosts .shosts .smbcredentials .davfs2 .msmtprc .mbsyncrc
    .offlineimaprc .fetchmailrc .esmtprc .muttrc .neomuttrc .mutt .config/mutt .config/neomutt .mailrc
    .irssi .weechat .config/weechat .config/hexchat .purple .config/filezilla .filezilla .lftp .ncftp
    .remmina .local/share/remmina .vnc .trc .twurlrc .tugboat .recon-ng .config/tailscale
    .wasmer/wasmer.toml .supabase/access-token .local/share/uv/credentials Library/Keychains
    Library/Cookies Library/Mail Library/Messages
""".split()  # noqa: SIM905  # a list takes three times the room
"""Paths below the home directory that hold credentials or private records."""

SETTINGS = """
    .bashrc .bash_profile .bash_login .bash_aliases .profile .zshrc .zshenv .zprofile .zlogin .cshrc
    .tcshrc .kshrc .exports .extra .config/fish .config/environment.d .pam_environment .Renviron
    .gitconfig .config/git/config .hgrc
""".split()  # noqa: SIM905  # as above
"""Settings of shells and programs, in which many people keep tokens too.

They are closed where the whole host may be read. Elsewhere they are not in sight, and a
repository of such files can be reviewed.
"""


@dataclass(frozen=True)
class Directories:
    """Absolute paths. `state` holds the jobs, `cache` the working trees of delegates."""

    home: Path
    codex_home: Path
    state: Path
    cache: Path = Path("/nonexistent")

    @classmethod
    def of(cls, env: Mapping[str, str], state: Path) -> Directories:
        """The directories that this environment names, or the usual ones."""
        home = Path(env.get("HOME") or Path.home())
        codex_home = Path(env.get("CODEX_HOME") or home / ".codex")
        return cls(home, codex_home.absolute(), state, _cache_directory(env, home))

    @property
    def trees(self) -> Path:
        """Where delegates work: on disk, because a temporary directory may be memory."""
        return self.cache / "codex-counsel/trees"

    @property
    def packs(self) -> Path:
        """Where the repositories and images are that came from other machines."""
        return self.cache / "codex-counsel/packs"

    def denied(self) -> tuple[Path, ...]:
        """The credential paths that exist, all links resolved."""
        return _existing(
            [
                self.codex_home,
                self.state,
                *(self.home / name for name in CREDENTIALS),
                *system_files.named(own=self._own()),
            ]
        )

    def settings(self) -> tuple[Path, ...]:
        """The paths of `SETTINGS` that exist, all links resolved."""
        return _existing([self.home / name for name in SETTINGS])

    def _own(self) -> tuple[Path, ...]:
        """Where runs of this user work or write; no denial of ours holds one of these."""
        temporary = temporary_root()
        return tuple(path.resolve() for path in (self.home, self.trees, temporary))

    def gate(self) -> Gate:
        """What no run may be given, as it is now. Made once per request, because making it reads the disk."""
        return Gate(self.all_homes(), self.denied())

    def all_homes(self) -> tuple[Path, ...]:
        """This user's home directory and those of all others on this machine."""
        others: list[Path] = []
        for base in HOMES:
            try:
                others += base.iterdir()
            except OSError:
                continue
        return (
            self.home,
            self.home.resolve(),
            Path("/root"),
            Path("/var/root"),
            *HOMES,
            *others,
        )


@dataclass(frozen=True)
class Gate:
    """What no run may be given: the home directories of this machine, and paths with credentials."""

    homes: tuple[Path, ...]
    denied: tuple[Path, ...]

    def why_closed(self, path: Path) -> str | None:
        """Why no run may be given this directory, or None. See `sandbox.why_closed`."""
        return why_closed(path, self.homes, self.denied)

    def denied_around(self, *needed: Path) -> tuple[Path, ...]:
        """As `denied`, but the paths in `needed`, which a run cannot do without, stay open.

        Codex may be installed below its own home, and nothing can open what lies below
        a denial. So the denial of the whole directory is replaced by denials of
        everything beside the way to the needed path.
        """
        paths: list[Path] = []
        for denied in self.denied:
            paths += _denials_around(denied, needed)
        return tuple(paths)


def is_of_the_system(path: Path) -> bool:
    """Whether the path lies in a directory of the operating system, and not in one for temporary files."""
    if any(path.is_relative_to(base) for base in TEMPORARY_DIRECTORIES):
        return False
    return any(path.is_relative_to(base) for base in SYSTEM_DIRECTORIES)


def _existing(paths: Iterable[Path]) -> tuple[Path, ...]:
    """The files and directories that exist, resolved: with /dev/null denied, for one, no program works.

    A denied link does not cover its target, and with a denied path below a link no
    command can be started.
    """
    # Path.exists raises PermissionError where os.path.exists answers no.
    existing = [path for path in paths if os.path.exists(path)]  # noqa: PTH110
    real = dict.fromkeys(path.resolve() for path in existing)
    return tuple(path for path in real if path.is_dir() or not path.is_char_device())


def _cache_directory(env: Mapping[str, str], home: Path) -> Path:
    if env.get("XDG_CACHE_HOME"):
        return Path(env["XDG_CACHE_HOME"]).absolute()

    apple = home / "Library/Caches"
    if apple.is_dir():
        return apple.absolute()
    return (home / ".cache").absolute()


def _denials_around(denied: Path, needed: tuple[Path, ...]) -> list[Path]:
    real = denied.resolve()
    inside = [path for path in needed if path.is_relative_to(real)]
    if not inside:
        return [denied]

    folders: dict[Path, None] = {}
    for path in inside:
        folders |= dict.fromkeys(
            folder for folder in path.parents if folder.is_relative_to(real)
        )

    denials = []
    for folder in folders:
        for entry in folder.iterdir():
            leads_to_needed = any(path.is_relative_to(entry) for path in inside)
            if not leads_to_needed:
                denials.append(entry)
    return denials
