"""Whether anybody listens at an address: Dask itself tries for its whole timeout, also where nobody ever will."""

from __future__ import annotations

import asyncio
import contextlib
import socket

PROBE_SECONDS = 2.0
"""For one connection. Who does not answer in that time may be slow."""
UNKNOWN_NAME = (socket.EAI_NONAME, socket.EAI_NODATA)
"""Of a name that nobody has. A name server that is away for a moment says something else."""


async def why_unreachable(host: str, port: int) -> str | None:
    """Why nothing can answer there, in words; None where something listens, or may be slow to answer."""
    loop = asyncio.get_running_loop()
    try:
        found = await asyncio.wait_for(
            loop.getaddrinfo(host, port, type=socket.SOCK_STREAM), PROBE_SECONDS
        )
    except socket.gaierror as error:
        return "no machine has this name" if error.errno in UNKNOWN_NAME else None
    except (OSError, ValueError):
        return None
    is_refused = False
    for family, kind, protocol, _, address in found:
        try:
            with contextlib.closing(socket.socket(family, kind, protocol)) as probe:
                probe.setblocking(False)
                await asyncio.wait_for(loop.sock_connect(probe, address), PROBE_SECONDS)
        except TimeoutError:
            return None
        except ConnectionRefusedError:
            is_refused = True
        except OSError:
            # Such as an address of IPv6 on a machine that has none: another address decides.
            continue
        else:
            return None
    return "nobody listens there: the connection is refused" if is_refused else None
