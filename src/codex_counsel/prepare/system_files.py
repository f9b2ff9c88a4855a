"""Files of the operating system that hold secrets.

Codex's `:minimal` opens all of /etc, and as root every file in it can be read: the
hashes of all passwords, host keys, VPN keys.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

NAMED = """
    etc/shadow etc/shadow- etc/gshadow etc/gshadow- etc/security/opasswd etc/sudoers etc/sudoers.d
    etc/ssh/ssh_host_*_key etc/ssl/private etc/pki/tls/private etc/krb5.keytab etc/letsencrypt
    etc/wireguard etc/openvpn etc/ipsec.secrets etc/ipsec.d/private etc/swanctl/private
    etc/ppp/chap-secrets etc/ppp/pap-secrets etc/NetworkManager/system-connections etc/netplan
    etc/wpa_supplicant etc/iwd etc/kubernetes etc/rancher etc/docker/key.json etc/containers/auth.json
    etc/apt/auth.conf etc/apt/auth.conf.d etc/postfix/sasl_passwd etc/exim4/passwd.client etc/msmtprc
    etc/mysql/debian.cnf etc/rclone.conf etc/s3cfg etc/passwd-s3fs etc/davfs2/secrets etc/vault.d
    etc/salt/pki etc/puppetlabs/puppet/ssl/private_keys etc/chef/client.pem etc/credstore
    etc/credstore.encrypted
    run/secrets run/credentials run/user run/dbus run/systemd/private run/docker.sock run/containerd
    run/podman run/crio run/k3s run/snapd.socket run/libvirt run/lxd.socket run/incus run/postgresql
    run/mysqld
    var/backups var/spool/cron var/lib/cloud var/lib/containerd var/lib/docker var/lib/incus
    var/lib/iwd var/lib/kubelet var/lib/lxd var/lib/NetworkManager var/lib/rancher var/lib/samba/private
    var/lib/sss var/lib/tailscale var/snap/lxd/common/lxd
""".split()  # noqa: SIM905  # a list takes three times the room
"""Paths below the root of the file system: files and directories with credentials, and sockets that give control
over the machine. All of them matter where the whole host may be read, those in /etc in every run."""

NEEDED = frozenset(
    """
    etc/passwd etc/group etc/hosts etc/resolv.conf etc/nsswitch.conf etc/host.conf etc/ld.so.cache
    etc/ld.so.conf etc/ld.so.conf.d etc/localtime etc/gitconfig etc/ssl etc/ssl/certs etc/pki
    etc/alternatives
    """.split()  # noqa: SIM905  # as above
)
"""What programs cannot run without, whatever its permissions are."""

MAX_ENTRIES = 20_000
MAX_PRIVATE = 150
"""Each denial costs a command about half a millisecond, and with some 1,700 no command starts."""

REMEMBERED_SECONDS = 10.0
"""How long it counts what was found in /etc: runs that are started one after another share the look at all of it."""
_found: dict[Path, tuple[float, list[Path]]] = {}


def named(own: Iterable[Path] = (), root: Path = Path("/")) -> list[Path]:
    """Those of the well-known paths that exist below `root`, without those that hold one of the user's `own` places.

    Links are not resolved.
    """
    paths: list[Path] = []
    for name in NAMED:
        if "*" in name:
            paths += sorted(root.glob(name))
            continue
        # Path.exists raises PermissionError where os.path.exists answers no.
        if os.path.exists(root / name):  # noqa: PTH110
            paths.append(root / name)
    holding = {parent for place in own for parent in (place, *place.parents)}
    return [path for path in paths if path not in holding]


def not_for_everybody(root: Path = Path("/")) -> list[Path]:
    """What in /etc not every user of this machine may read, by its permissions; resolved.

    A directory stands for all that is in it. Empty where there is so much of it that
    the permissions tell nothing, as in an image whose files were made with a strict
    umask. What it was `REMEMBERED_SECONDS` ago: a run keeps for its whole life what was
    found at its start.
    """
    now = time.monotonic()
    looked_at, found = _found.get(root, (float("-inf"), []))
    if now - looked_at >= REMEMBERED_SECONDS:
        found = _private(root)
        _found[root] = now, found
    return list(found)


def _private(root: Path) -> list[Path]:
    private: dict[Path, None] = {}
    for number, path in enumerate(_closed_entries(root, root / "etc")):
        if number >= MAX_PRIVATE:
            return []
        private[path] = None
    return list(private)


def _closed_entries(root: Path, top: Path) -> Iterator[Path]:
    entries_left = MAX_ENTRIES
    folders = [str(top)]
    while folders and entries_left > 0:
        for entry in _entries(folders.pop()):
            entries_left -= 1
            mode = _mode(entry)
            if mode is None:
                continue
            is_open = _open_to_others(mode) or _is_needed(entry.path, root)
            if not is_open:
                # A link may lead to a directory that its user works in.
                real = Path(entry.path).resolve()
                if stat.S_ISREG(mode) or real.is_relative_to(top.resolve()):
                    yield real
            elif stat.S_ISDIR(mode) and not entry.is_symlink():
                folders.append(entry.path)


def _is_needed(path: str, root: Path) -> bool:
    return str(Path(path).relative_to(root)) in NEEDED


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _mode(entry: os.DirEntry[str]) -> int | None:
    """The mode of a file or directory, of what a link leads to; None for anything else, and for a dead link."""
    try:
        mode = entry.stat().st_mode
    except OSError:
        return None
    if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
        return mode
    return None


def _open_to_others(mode: int) -> bool:
    if stat.S_ISDIR(mode):
        # Of a directory that can be entered but not listed, the files are looked at one
        # by one.
        return bool(mode & stat.S_IXOTH)
    return bool(mode & stat.S_IROTH)
