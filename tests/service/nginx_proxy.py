"""nginx with the documented settings for several services, on a port of this machine."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

SETTINGS = Path(__file__).parents[2] / "docs/deployment/stations/nginx.conf"
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def free_port() -> int:
    """A port that nobody uses now."""
    with closing(socket.create_server(("127.0.0.1", 0))) as opened:
        return int(opened.getsockname()[1])


class NginxProxy:
    """A proxy before three services; skips the test where nginx is not installed.

    Args:
        folder: for its files.
        ports: of the services.
    """

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if nginx is None:
            pytest.skip("nginx is not installed: apt-get install nginx-light.")
        self.port = free_port()
        text = SETTINGS.read_text()
        for number, port in enumerate(ports):
            text = text.replace(f"chiasm-{number}:8000", f"127.0.0.1:{port}")
        text = re.sub(r"listen \d+;", f"listen 127.0.0.1:{self.port};", text)
        (folder / "chiasm.conf").write_text(text)
        temporary = "".join(f"{kind}_temp_path {folder}/{kind}; " for kind in _TEMPORARY)
        (folder / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/nginx.txt; "
            f"events {{}} http {{ access_log off; {temporary} include {folder}/chiasm.conf; }}"
        )
        self._process = subprocess.Popen(
            [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL
        )

    def answers(self) -> bool:
        """Tell whether it listens already."""
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """End it."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
