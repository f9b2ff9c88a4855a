"""This checkout as a package that installers find, and the certificates that they and the hub need."""

from __future__ import annotations

import os
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.e2e.claude.conftest import ROOT, uv
from tests.e2e.hub import Hub


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel of this checkout, for UV_FIND_LINKS: in the place of an index."""
    folder = tmp_path_factory.mktemp("packages")
    subprocess.run(
        [uv(), "build", "--quiet", "--wheel", "--out-dir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    return folder


def uv_cache() -> str:
    """A cache for installers with a network: from the user's, other tests install without one at the same time."""
    return str(ROOT / ".cache" / "uv")


def certificates(hub: Hub) -> Path:
    """A file for SSL_CERT_FILE: what this machine trusts, for the index of packages, and the hub."""
    trusted = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    bundle = hub.folder / "certificates.pem"
    names = [str(hub.certificate)]
    if trusted:
        names.append(trusted)
    bundle.write_text("\n".join(Path(name).read_text("utf-8") for name in names))
    return bundle
