"""Which paths of a diff a caller must accept by name, because a patch to them is a way out of the sandbox.

Names are compared as a file system may compare them: without case, in one Unicode form,
without characters that are not seen, as NTFS and HFS+ read them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

LINK = "120000"
"""Git's mode of a symbolic link."""
MAX_LINKS = 40
"""Links on one way after which no kernel follows it."""

SENSITIVE: dict[str, str] = {
    "instructions for agents": """
        agents.md agents.*.md agent.md agent.*.md .agents.md *.agent.md claude.md claude.*.md gemini.md
        gemini.*.md qwen.md crush.md crush.*.md warp.md iflow.md
        copilot-instructions.md *.instructions.md *.prompt.md *.chatmode.md skill.md replit.md team_guide.md
        airules.md .goosehints .rules .ai-rules .airules .cursorrules .windsurfrules .clinerules .roorules
        .voidrules .augment-guidelines .openhands_instructions
        .github/instructions .github/prompts .github/chatmodes .github/agents .github/skills .github/hooks
        .github/plugin /skills
    """,
    "settings of agents": """
        .claude* .codex* .agents .agent .gemini* .cursor* .windsurf* .codeium* .cline* .roo .roomodes .rooignore
        .roorules* .kilo* .aider* .continue* .amp .junie* .trae* .opencode* opencode.json opencode.jsonc .goose*
        .copilot* .kiro* .amazonq .augment* .qodo .qwen* .crush* crush.json .factory .openhands .devin
        .warp* .iflow* .tabnine* .cody .sourcegraph .pearai .rovodev .zencoder .firebender* .antigravity
        .grok .qoder .codebuddy .vibe .serena .specify
        .idx .ruler .pr_agent.toml .coderabbit.y*ml .aiexclude
        *.mcp*.json *.mcp*.toml mcp.json mcp_config.json mcp-config.json mcp_settings.json .mcp
        hooks/hooks.json
    """,
    "editors and development containers": """
        .vscode* *.code-workspace .idea .zed .fleet .nova .theia .vs .settings .project .classpath
        .externaltoolbuilders *.sublime-project *.sublime-workspace .helix .kakrc
        .exrc .vimrc _vimrc .gvimrc .lvimrc .nvimrc .nvim.lua .nvim .vim .lazy.lua .neoconf.json
        .dir-locals.el .dir-locals-2.el .projectile .emacs*
        .devcontainer* devcontainer.json .gitpod* .ona .codesandbox .stackblitzrc .replit
    """,
    "shells, interpreters and debuggers": """
        .env .env.* .envrc .envrc.* .env.d .direnvrc .autoenv* .bashrc .bash_* .profile .zshrc .zshenv .zprofile
        .zlogin .kshrc .cshrc .tcshrc .inputrc .config/fish .tool-versions .tool-versions.*
        .mise* mise.toml mise.*.toml mise/config* .config/mise .rtx.toml .asdfrc .rvmrc .sdkmanrc .flox devenv.local.nix
        sitecustomize.py usercustomize.py .pythonrc* .pdbrc* .ipython .jupyter
        .gdbinit .lldbinit .rprofile .renviron .irbrc .pryrc .byebugrc .ghci .iex.exs .ocamlinit .perldb
        .rdbgrc .octaverc .luacheckrc .ycm_extra_conf.py .clangd .curlrc .wgetrc .netrc .ssh .gnupg
    """,
    "installed programs and packages": """
        .venv venv node_modules .direnv pyvenv.cfg .bin vendor/bin .shadowenv.d site-packages
    """,
    "package managers": """
        .npmrc .yarnrc* .yarn .pnpmfile.* .pnp.* bunfig.toml .cargo/config* .cargo/credentials* .mvn .m2
        pip.conf pip.ini .pypirc .condarc .gemrc .bundle .sbtopts .jvmopts nuget.config .nuget
        ansible.cfg .terraformrc terraform.rc .config/dotnet-tools.json .bazeliskrc tools/bazel
    """,
    "git": """
        .git git~1 .gitmodules .gitattributes .gitconfig .git-hooks .githooks .husky* .lfsconfig
        .pre-commit* prek.toml lefthook* .lefthook* .overcommit* .lintstagedrc* lint-staged.config.*
        .simple-git-hooks.* simple-git-hooks.* captainhook.json grumphp.y*ml .hg .hgrc .jj .svn .sl
    """,
    "continuous integration": """
        .github/workflows .github/actions .github/dependabot.y*ml .github/codeowners .gitlab-ci* .gitlab
        .circleci .travis.y*ml .drone* .woodpecker* .buildkite buildkite.y*ml azure-pipelines* .azure-pipelines*
        .azuredevops .pipelines bitbucket-pipelines* appveyor.y*ml .appveyor* cloudbuild*.y*ml
        cloudbuild*.json .cloudbuild .cirrus.* .semaphore .tekton .teamcity .forgejo .gitea .ci .builds .build.yml
        jenkinsfile* *.jenkinsfile .jenkins* jenkins.y*ml codemagic.y*ml bitrise.y*ml wercker.y*ml
        .shippable.y*ml .scrutinizer.y*ml buddy.y*ml .buddy codefresh* .codefresh .harness screwdriver.y*ml
        .taskcluster.y*ml .zuul.* .zuul.d zuul.d .kokoro buildspec*.y*ml .codecatalyst .ebextensions
        .platform .mergify.y*ml renovate.json* .renovaterc* .readthedocs.y*ml .vsts-ci*
    """,
}
"""Files that tools execute or follow as instructions, as soon as they lie in the tree.

A pattern matches a file, or a folder and all that is in it, anywhere in the tree; with
`/` in front only at its top. Patterns of two parts match a file in a folder. `*` stands
for any characters of one part. All patterns are in lower case.
"""

BUILD: dict[str, str] = {
    "any language": """
        makefile makefile.* gnumakefile bsdmakefile *.mk *.mak justfile .justfile *.just taskfile* earthfile
        procfile* tiltfile skaffold.y*ml configure configure.ac configure.in autogen.sh bootstrap.sh
        build.sh build.bash build.ps1 build.bat build.cmd build.cake makefile.am makefile.in *.ninja
        cmakelists.txt *.cmake cmakepresets.json cmakeuserpresets.json meson.build meson_options.txt
        meson.options build.bazel workspace.bazel module.bazel *.bzl .bazelrc .bazelversion
        .buckconfig pants.toml premake*.lua xmake.lua wscript sconstruct sconscript conanfile.*
        vcpkg.json snakefile nextflow.config dagger.json
        *.nix flake.lock guix.scm pkgbuild snapcraft.y*ml debian/rules
    """,
    "containers and deployment": """
        dockerfile* *.dockerfile containerfile* docker-compose* compose.y*ml compose.*.y*ml docker-bake.*
        vagrantfile *.tf *.tofu pulumi.y*ml serverless.y*ml netlify.toml vercel.json wrangler.toml
        wrangler.json* fly.toml render.y*ml railway.* firebase.json app.yaml action.y*ml
    """,
    "Python": """
        pyproject.toml setup.py setup.cfg conftest.py tox.ini noxfile.py pytest.ini .pytest.ini tasks.py
        fabfile.py dodo.py manage.py requirements*.txt constraints*.txt pipfile pipfile.lock poetry.lock
        poetry.toml pdm.toml pdm.lock uv.toml uv.lock pixi.toml pixi.lock hatch.toml hatch_build.py environment.y*ml
        manifest.in .coveragerc mypy.ini .pylintrc pylintrc
    """,
    "JavaScript": """
        package.json package-lock.json npm-shrinkwrap.json yarn.lock pnpm-lock.yaml pnpm-workspace.yaml
        bun.lock bun.lockb deno.json* deno.lock turbo.json nx.json lerna.json rush.json project.json
        workspace.json angular.json tsconfig*.json jsconfig*.json
        *.config.js *.config.cjs *.config.mjs *.config.ts *.config.cts *.config.mts *.config.json
        .eslintrc* .babelrc* .prettierrc* .mocharc* .swcrc .postcssrc* .stylelintrc* .nycrc* .parcelrc
        .storybook karma.conf.* gulpfile* gruntfile* jakefile* vite.* webpack.* rollup.* jest.*
    """,
    "Java and .NET": """
        build.gradle* settings.gradle* *.gradle *.gradle.kts gradle.properties gradlew* gradle/wrapper
        gradle/*.toml pom.xml mvnw* build.xml ivy.xml build.sbt *.sbt build.sc build.mill project.clj deps.edn
        *.csproj *.fsproj *.vbproj *.vcxproj *.sln *.slnx *.props *.targets directory.*.rsp global.json
        packages.config
    """,
    "other languages": """
        cargo.toml cargo.lock build.rs rust-toolchain* clippy.toml go.mod go.sum go.work magefile.go gemfile*
        gems.rb rakefile *.rake *.gemspec guardfile capfile dangerfile fastfile podfile* *.podspec brewfile
        cartfile package.swift package.resolved *.xcconfig *.pbxproj mix.exs mix.lock rebar.config dune
        dune-project *.opam *.cabal cabal.project* stack.yaml setup.hs shard.yml *.nimble pubspec.* build.zig*
        composer.json composer.lock phpunit.xml* cpanfile makefile.pl build.pl makevars* *.rockspec
    """,
}
"""Files that building, testing or installing a project executes. In the same form as SENSITIVE."""

IGNORABLE = (
    (0x034F, 0x034F),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x2065, 0x2065),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFF8),
    (0xE0000, 0xE0FFF),
)
"""First and last of the characters that are not seen, besides those of the category Cf.

File systems that fold names leave them out of comparisons (Default_Ignorable_Code_Point
of Unicode).
"""
SHORT_NAME = re.compile(r"(?:^|/)[^./~]{1,6}~[1-9][0-9]*(?:\.[^./]{0,3})?(?:/|$)")
"""A name that NTFS and FAT give to some other file: `CLAUDE~1` may be `.claude`."""


def fold(path: bytes) -> str:
    """A path in the form in which it is compared. Two that are one file on some file system have the same form."""
    text = path.decode("utf-8", "surrogateescape").replace("\\", "/")
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).casefold()
        text = unicodedata.normalize("NFKC", text)
        text = "".join(character for character in text if not _is_ignorable(character))
    text = text.casefold()
    # NTFS leaves out dots and spaces at the end, and what follows a colon is a stream.
    parts = [part.partition(":")[0].rstrip(" .") for part in text.split("/")]
    return "/".join(parts)


def _is_ignorable(character: str) -> bool:
    if unicodedata.category(character) == "Cf":
        return True
    return any(first <= ord(character) <= last for first, last in IGNORABLE)


class _Patterns(NamedTuple):
    """Both match a folded path from its start: one of the patterns, or the folder of a pattern of two parts."""

    paths: re.Pattern[str]
    folders: re.Pattern[str]


def _compiled(table: dict[str, str]) -> _Patterns:
    anywhere: list[str] = []
    at_the_top: list[str] = []
    folders: list[str] = []
    for pattern in " ".join(table.values()).split():
        parts = []
        for part in pattern.strip("/").split("/"):
            parts.append(re.escape(part).replace(r"\*", "[^/]*"))
        expression = "/".join(parts)
        if pattern.startswith("/"):
            at_the_top.append(expression)
        else:
            anywhere.append(expression)
        if len(parts) > 1:
            folders.append("/".join(parts[:-1]))
    return _Patterns(
        paths=re.compile(_any_of(anywhere, at_the_top) + r"(?:/|\Z)", re.DOTALL),
        folders=re.compile(_any_of(folders, []) + r"\Z", re.DOTALL),
    )


def _any_of(anywhere: list[str], at_the_top: list[str]) -> str:
    top = "|".join([*at_the_top, r"(?!)"])
    return f"(?:(?:.*/)?(?:{'|'.join(anywhere)})|{top})"


# Compiling takes longer than all of a start of the command line.
@cache
def _sensitive() -> _Patterns:
    return _compiled(SENSITIVE)


@cache
def _build() -> _Patterns:
    return _compiled(BUILD)


def is_sensitive(path: bytes) -> bool:
    """Whether tools execute the file or follow it as instructions, judged by its name."""
    folded = fold(path)
    return bool(_sensitive().paths.match(folded) or SHORT_NAME.search(folded))


def is_build_file(path: bytes) -> bool:
    """Whether building, testing or installing the project executes the file, judged by its name."""
    return bool(_build().paths.match(fold(path)))


# --- links

ReadLink = Callable[[bytes], bytes | None]
"""The target of the link at a path of the tree; None for anything else. No part of the path is a link."""


@dataclass(frozen=True)
class TreeLinks:
    """The links of a tree after a patch. `names` are all that are known; `read` gives their targets."""

    names: Collection[bytes]
    read: ReadLink

    def destination(self, name: bytes) -> bytes | None:
        """Where a link leads, as a path of the tree without links; None where it leaves the tree or ends nowhere."""
        current = name.split(b"/")[:-1]
        parts = [name.rpartition(b"/")[2]]
        links = 0
        while parts:
            part = parts.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                if not current:
                    return None
                current.pop()
                continue
            current.append(part)
            target = self.read(b"/".join(current))
            if target is None:
                continue
            links += 1
            if links > MAX_LINKS or target.startswith(b"/"):
                return None
            current.pop()
            parts += target.split(b"/")[::-1]
        return b"/".join(current)

    def is_sensitive(self, name: bytes) -> bool:
        """Whether a link must be accepted: by where it leads, or because files behind it get a sensitive name."""
        destination = self.destination(name)
        if destination is None or is_sensitive(destination):
            return True
        return bool(_sensitive().folders.match(fold(name)))

    def aliases(self) -> Iterator[tuple[bytes, bytes]]:
        """Each link whose name is sensitive, or may begin a sensitive one, and where it leads in the tree."""
        for name in self.names:
            if is_sensitive(name) or _sensitive().folders.match(fold(name)):
                destination = self.destination(name)
                if destination is not None:
                    yield name, destination


class ChangedPath(NamedTuple):
    """One file of a diff: its name, its name before a rename, and git's mode after the change."""

    name: bytes
    old_name: bytes | None
    mode: str


def sensitive_paths(files: Iterable[ChangedPath], links: TreeLinks) -> list[bytes]:
    """Which names of the changed files must be accepted, each once, in their order.

    A name is sensitive by itself, as a link by where it leads, and where a link of the
    tree gives it a sensitive name: with `CLAUDE.md` as a link to `notes.md`, `notes.md`
    is sensitive.
    """
    aliases = list(links.aliases())
    found: dict[bytes, None] = {}
    for file in files:
        if file.mode == LINK and links.is_sensitive(file.name):
            found[file.name] = None
        for name in (file.name, file.old_name):
            if name and (is_sensitive(name) or _has_sensitive_alias(name, aliases)):
                found[name] = None
    return list(found)


def _has_sensitive_alias(name: bytes, aliases: Iterable[tuple[bytes, bytes]]) -> bool:
    for link, destination in aliases:
        if name == destination:
            if is_sensitive(link):
                return True
            continue
        below = destination + b"/" if destination else b""
        if name.startswith(below) and is_sensitive(link + b"/" + name[len(below) :]):
            return True
    return False
