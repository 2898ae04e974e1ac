"""What a process and all that it started listen on."""

import socket
from contextlib import suppress

import psutil


def family(pid):
    """The process and all its descendants."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def listening(pid):
    """Sockets that the family listens on: {(address, name of the process)}."""
    found = set()
    with suppress(psutil.NoSuchProcess):
        for process in family(pid):
            with suppress(psutil.NoSuchProcess):
                name = process.name()
                found |= {
                    (one.laddr.ip, name)
                    for one in process.net_connections("inet")
                    if one.status == psutil.CONN_LISTEN
                    or (one.type == socket.SOCK_DGRAM and not one.raddr)
                }
    return found


def beyond_loopback(sockets):
    """Those that another machine could reach."""
    return {s for s in sockets if s[0] != "::1" and not s[0].startswith(("127.", "::ffff:127."))}
