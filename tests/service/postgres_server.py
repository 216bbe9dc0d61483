"""A PostgreSQL server of Debian's package in a temporary folder; it can be stopped and started."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest


def _binaries() -> Path | None:
    """The folder of the newest installed version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    return found[-1].parent if found else None


class PostgresServer:
    """A server on a port of this machine; skips the test where PostgreSQL is not installed."""

    def __init__(self) -> None:
        pytest.importorskip("psycopg", reason="psycopg is not installed")
        binaries = _binaries()
        if binaries is None:
            pytest.skip("PostgreSQL is not installed: apt-get install postgresql.")
        self._binaries = binaries
        # A server refuses to run as root; Debian's package made this user.
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            self._user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        self._folder = Path(tempfile.mkdtemp(prefix="chiasm-postgres-"))
        if self._user:
            os.chown(self._folder, self._user["user"], self._user["group"])
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            self.port = free.getsockname()[1]
        data = self._folder / "data"
        self._run("initdb", "-D", data, "-U", "chiasm", "-A", "trust", "--no-sync", "-E", "UTF8")
        self.start()

    def _run(self, program: str, *arguments: Any) -> None:
        done = subprocess.run(
            [str(self._binaries / program), *map(str, arguments)],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            **self._user,
        )
        assert done.returncode == 0, f"{program} failed"

    def start(self) -> None:
        """Start it, or do nothing if it runs."""
        if self._process() is None:
            settings = (
                f"-p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off "
                f"-c unix_socket_directories={self._folder} -c shared_buffers=16MB"
            )
            log = self._folder / "log"
            data = self._folder / "data"
            self._run("pg_ctl", "-D", data, "-l", log, "-o", settings, "-w", "start")

    def kill(self) -> None:
        """End it at once, as a loss of power would."""
        if self._process() is not None:
            self._run("pg_ctl", "-D", self._folder / "data", "-m", "immediate", "-w", "stop")

    def freeze(self) -> None:
        """Stop every process of it: connections stay open, and nothing answers."""
        for process in self._processes():
            os.kill(process, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        for process in self._processes():
            os.kill(process, signal.SIGCONT)

    def new_log(self) -> str:
        """Make an empty schema, which is quicker than a database; return its address."""
        import psycopg

        name = f"log_{uuid.uuid4().hex[:12]}"
        address = f"postgresql://chiasm@127.0.0.1:{self.port}/postgres"
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"{address}?options=-csearch_path%3D{name}"

    def remove(self) -> None:
        """Stop it, and delete its folder."""
        self.thaw()
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _process(self) -> int | None:
        try:
            first = (self._folder / "data" / "postmaster.pid").read_text().split()[0]
            os.kill(int(first), 0)
        except (OSError, IndexError, ValueError):
            return None
        return int(first)

    def _processes(self) -> list[int]:
        """The server and its children."""
        parent = self._process()
        if parent is None:
            return []
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [parent, *map(int, children)]
