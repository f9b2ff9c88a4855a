"""Which names of files a caller must accept before they are applied, however a file system spells them."""

from __future__ import annotations

import pytest

from codex_counsel.delegate.sensitive import (
    BUILD,
    LINK,
    SENSITIVE,
    ChangedPath,
    TreeLinks,
    fold,
    is_build_file,
    is_sensitive,
    sensitive_paths,
)

OBEYED = """
    AGENTS.md AGENTS.override.md pkg/AGENTS.md AGENT.md CLAUDE.md CLAUDE.local.md docs/Claude.md GEMINI.md QWEN.md
    .github/copilot-instructions.md .github/instructions/py.instructions.md .github/prompts/a.prompt.md
    src/api.instructions.md .github/agents/reviewer.agent.md .claude/skills/x/SKILL.md skills/x/run.sh
    .claude/settings.json .claude-plugin/plugin.json .codex/config.toml .agents/skills/x .gemini/settings.json
    .cursor/rules/a.mdc .cursorrules .cursorignore .windsurf/rules .windsurfrules .clinerules/01.md .roomodes .roo/rules
    .kilocode/mcp.json .aider.conf.yml .continue/config.yaml .continuerc.json .amp/settings.json .junie/guidelines.md
    .trae/rules/project_rules.md opencode.json .opencode/agent/x.md .goosehints .kiro/steering/a.md .amazonq/rules/a.md
    .augment/rules .openhands/microagents/repo.md .factory/droids .idx/airules.md .rules WARP.md CRUSH.md
    .mcp.json mcp.json project.mcp.json .vscode/mcp.json .mcp.local.json
    .vscode/tasks.json my.code-workspace .idea/workspace.xml .zed/tasks.json .devcontainer/devcontainer.json
    .devcontainer.json .gitpod.yml .exrc .nvim.lua .vimrc .dir-locals.el .emacs.d/init.el
    .envrc .env .env.local app/.env.production .tool-versions mise.toml .mise.toml mise.local.toml mise/config.toml
    .config/mise/config.toml .gdbinit .lldbinit .pdbrc .Rprofile .irbrc sitecustomize.py .bashrc
    .npmrc web/.npmrc .yarnrc .yarnrc.yml .yarn/releases/yarn.cjs .pnpmfile.cjs .cargo/config .cargo/config.toml
    .mvn/extensions.xml bunfig.toml pip.conf ansible.cfg .bundle/config
    .venv/bin/ls venv/lib/python3.12/site-packages/x.pth node_modules/.bin/tsc .direnv/bin/git tools/.bin/x
    app/pyvenv.cfg vendor/bin/phpunit tools/bazel .bazeliskrc .ycm_extra_conf.py .appveyor/x.ps1
    .gitmodules .gitattributes .gitconfig .githooks/pre-commit .husky/pre-commit .pre-commit-config.yaml
    .pre-commit-config.yml lefthook.yml .lefthook.yaml lefthook-local.yml .lintstagedrc.json .hg/hgrc .git/hooks/x
    .github/workflows/ci.yml .github/actions/a/action.yml .github/dependabot.yml .gitlab-ci.yml .gitlab/ci/a.yml
    .circleci/config.yml .travis.yml .drone.yml .woodpecker.yml .woodpecker/build.yml .buildkite/pipeline.yml
    azure-pipelines.yml bitbucket-pipelines.yml appveyor.yml .appveyor.yml cloudbuild.yaml .cirrus.yml .tekton/a.yaml
    Jenkinsfile ci/Jenkinsfile.release deploy.jenkinsfile .forgejo/workflows/a.yml buildspec.yml renovate.json
""".split()  # noqa: SIM905  # a list takes three times the room
SPELLED_OTHERWISE = [
    ".CLAUDE/settings.json",
    "agents.MD",
    "\uff21gents.md",
    "AGENTS\uff0emd",
    ".clau\u200bde/settings.json",
    ".\ufeffmcp.json",
    "AGENTS\u00ad.md",
    ".vscode\u2060/tasks.json",
    "CLAUDE.md\ufe0f",
    "CLAUDE.md.",
    "CLAUDE.md ",
    ".git\u200c/config",
    ".github./workflows /ci.yml",
    ".claude::$INDEX_ALLOCATION/settings.json",
    "CLAUDE.md:stream",
    ".claude\\settings.json",
    "CLAUDE~1/settings.json",
    "git~1/config",
    "git~1.../config",
    ".git./config",
    ".git /config",
    ".git::$INDEX_ALLOCATION/config",
    "a\\.git\\config",
    ".gitmodules.",
    "GITHUB~1/WORKFL~1/ci.yml",
    "line\nbreak/.envrc",
    "\u017f\u212aill.md",
]
PLAIN = """
    app.py src/main.rs README.md docs/agents/overview.md docs/claude-notes.md environment.py src/environments/a.py
    lib/gitmodules.c github/workflows/ci.yml src/github.py .gitignore .editorconfig docs/skills/a.md mise/notes.md
    cargo/config.py cursor.py idea.txt vscode.ts jenkins/notes.md config/rules.yml .github/ISSUE_TEMPLATE/bug.md
    .github/pull_request_template.md weights.pth agent.py tests/mcp.py src/skill.py a~b/c tilde~ notes~.md
""".split()  # noqa: SIM905  # as above
BUILD_FILES = """
    Makefile GNUmakefile rules.mk package.json web/package.json package-lock.json pyproject.toml setup.py setup.cfg
    conftest.py tests/conftest.py tox.ini noxfile.py requirements.txt requirements-dev.txt CMakeLists.txt a.cmake
    build.gradle build.gradle.kts settings.gradle gradlew gradle/wrapper/gradle-wrapper.jar pom.xml Cargo.toml build.rs
    go.mod Gemfile Rakefile Dockerfile Dockerfile.dev app.dockerfile docker-compose.yml compose.yaml justfile
    Taskfile.yml webpack.config.js vite.config.ts jest.config.cjs eslint.config.mjs .eslintrc.json .babelrc
    tsconfig.build.json app.csproj Directory.Build.props flake.nix meson.build composer.json Package.swift mix.exs
    main.tf action.yml MODULE.bazel
""".split()  # noqa: SIM905  # as above
NO_BUILD_FILES = """
    app.py build/output.txt src/build.py make.py package.md docs/docker/a.md workspace/a.py Cargo.md
""".split()  # noqa: SIM905  # as above


@pytest.mark.parametrize("name", [*OBEYED, *SPELLED_OTHERWISE], ids=ascii)
def test_what_tools_execute_or_obey_is_sensitive(name: str) -> None:
    assert is_sensitive(name.encode())


@pytest.mark.parametrize("name", [*PLAIN, *BUILD_FILES, *NO_BUILD_FILES])
def test_other_files_are_not(name: str) -> None:
    assert not is_sensitive(name.encode())


@pytest.mark.parametrize("name", BUILD_FILES)
def test_what_a_build_executes_is_a_build_file(name: str) -> None:
    assert is_build_file(name.encode())
    assert is_build_file(name.upper().encode())


@pytest.mark.parametrize("name", [*PLAIN, *NO_BUILD_FILES])
def test_other_files_are_no_build_files(name: str) -> None:
    assert not is_build_file(name.encode())


def test_a_name_that_is_no_text_is_judged_by_the_text_in_it() -> None:
    assert is_sensitive(b"\xff/.claude/settings.json")
    assert not is_sensitive(b"caf\xe9")


@pytest.mark.parametrize("table", [SENSITIVE, BUILD], ids=["sensitive", "build"])
def test_every_pattern_is_written_as_names_are_compared_and_only_once(
    table: dict[str, str],
) -> None:
    patterns = " ".join(table.values()).split()
    assert [fold(pattern.encode()) for pattern in patterns] == patterns
    assert len(set(patterns)) == len(patterns)


# --- links


def refused(
    files: dict[str, str | None], links: dict[str, str], mode: str = "100644"
) -> list[str]:
    """The names of changed files that must be accepted. `files` are old names by name; `links` is the tree after it."""
    targets = {name.encode(): target.encode() for name, target in links.items()}
    changed = []
    for name, old_name in files.items():
        is_link = name in links
        changed.append(
            ChangedPath(
                name.encode(),
                old_name.encode() if old_name else None,
                LINK if is_link else mode,
            )
        )
    names = sensitive_paths(changed, TreeLinks(targets, targets.get))
    return [name.decode() for name in names]


@pytest.mark.parametrize(
    "target", ["app.py", "docs", ".", "docs/../app.py", "missing", "docs/first"]
)
def test_a_link_inside_the_tree_needs_no_consent(target: str) -> None:
    assert refused({"link": None}, {"link": target, "docs/first": "../app.py"}) == []


@pytest.mark.parametrize(
    "target",
    ["/etc/passwd", "..", "docs/../../x", "link", "docs/up/x", "docs/out", "again"],
)
def test_a_link_that_leaves_the_tree_or_ends_nowhere_needs_consent(target: str) -> None:
    others = {"docs/up": "../..", "docs/out": "/tmp", "again": "link"}
    assert refused({"link": None}, {"link": target, **others}) == ["link"]


@pytest.mark.parametrize(
    "target", [".claude/settings.json", "CLAUDE.md", ".git", ".env", "docs/agent"]
)
def test_a_link_to_what_tools_obey_needs_consent(target: str) -> None:
    links = {"link": target, "docs/agent": "../.claude"}
    assert refused({"link": None}, links) == ["link"]


@pytest.mark.parametrize("name", [".claude", ".github", ".cargo", ".config", "x/.yarn"])
def test_a_link_that_gives_files_behind_it_such_a_name_needs_consent(name: str) -> None:
    assert refused({name: None}, {name: "plain"}) == [name]


@pytest.mark.parametrize(
    ("link", "target", "changed"),
    [
        ("CLAUDE.md", "docs/notes.md", "docs/notes.md"),
        ("AGENTS.md", "first", "docs/notes.md"),
        (".cursor", "tools/cursor", "tools/cursor/mcp.json"),
        (".github", "ci", "ci/workflows/build.yml"),
        ("web/.vscode", "../editor", "editor/tasks.json"),
    ],
)
def test_a_file_that_a_link_gives_such_a_name_needs_consent(
    link: str, target: str, changed: str
) -> None:
    links = {link: target, "first": "docs/notes.md"}
    assert refused({changed: None, "other.md": None}, links) == [changed]
    assert refused({"moved": changed}, links) == [changed]


def test_a_file_beside_what_such_a_link_leads_to_needs_none() -> None:
    links = {"CLAUDE.md": "docs/notes.md", ".github": "ci", "latest": "docs"}
    files = {"docs/other.md": None, "ci/readme.md": None, "docs/notes.md.txt": None}
    assert refused(dict(files), links) == []


def test_an_alias_does_not_hide_behind_another_one_of_the_same_file() -> None:
    links = {".github": "notes.md", "AGENTS.md": "notes.md"}
    assert refused({"notes.md": None}, links) == ["notes.md"]
