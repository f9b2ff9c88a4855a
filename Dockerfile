# codex-counsel with Codex and git, for a CI system without a template of its own, and for anything else that starts
# containers. docs/how-to/container.md says how it is built and started.

# hadolint global ignore=DL3008
# Debian's servers keep only the newest version of a package: one that was pinned could not be installed for long.

FROM debian:trixie-slim AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-pip python3-venv
COPY release/requirements.txt /build/
COPY dist/*.whl /build/
# All that is installed is the lock file's, with its checksums; only the wheel is new.
RUN python3 -m venv --without-pip /opt/codex-counsel \
    && python3 -m pip --python /opt/codex-counsel install --no-cache-dir --require-hashes --requirement /build/requirements.txt \
    && python3 -m pip --python /opt/codex-counsel install --no-cache-dir --no-deps --no-index /build/*.whl

FROM debian:trixie-slim
# What is mounted at /project mostly belongs to another user. No program that its configuration names is run.
# A new volume gets its owner from the directory at which it is mounted first: without one, root.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates git openssh-client python3 ripgrep \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 --shell /bin/bash counsel \
    && install --directory --owner=counsel --group=counsel /project /home/counsel/.local /home/counsel/.local/state \
    && install --directory --owner=counsel --group=counsel --mode=0700 /home/counsel/.local/state/codex-counsel \
    && git config --system --add safe.directory /project \
    && git config --system --add safe.directory '/project/*'
COPY --from=build /opt/codex-counsel /opt/codex-counsel
ENV PATH=/opt/codex-counsel/bin:/usr/local/bin:/usr/bin:/bin
# As root, Codex's sandbox would leave the settings of the machine writable to the commands of a run.
# By number, so that Kubernetes can tell.
USER 1000:1000
WORKDIR /project
LABEL org.opencontainers.image.title="codex-counsel" \
      org.opencontainers.image.description="Ask OpenAI's Codex for a second opinion, a review or a diff, supervised and sandboxed." \
      org.opencontainers.image.licenses="MIT"
ENTRYPOINT ["codex-counsel"]
CMD ["--help"]
