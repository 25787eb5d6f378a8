"""Starts a tritonserver on free ports of loopback and ends it, with deadlines."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from tests.tritonserver.environment import ServerEnvironment

READY_S = 180
END_S = 120


class Server:
    """A running server. http, grpc: its addresses; process: the server's own, not those of its
    models."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, ports: Sequence[int]) -> None:
        self.process = process
        self.log = log
        self.http, self.grpc = (f"127.0.0.1:{port}" for port in ports)

    def text(self) -> str:
        """What the server has logged so far."""
        return self.log.read_text(errors="replace")

    def is_ready(self) -> bool:
        return self._answers("/v2/health/ready")

    def has_ready(self, model: str, version: int) -> bool:
        """Whether this version of a model is loaded."""
        return self._answers(f"/v2/models/{model}/versions/{version}/ready")

    def wait_until(
        self, condition: Callable[[], bool], what: str, seconds: float = READY_S
    ) -> None:
        """Wait until the condition holds. Raises: AssertionError with the log if it takes too
        long."""
        deadline = time.monotonic() + seconds
        while not condition():
            ended = self.process.poll()
            assert ended is None, f"the server ended with status {ended}\n{self.text()}"
            assert time.monotonic() < deadline, f"not {what} after {seconds} s\n{self.text()}"
            time.sleep(0.1)

    def memory(self) -> int:
        """Bytes of memory of the server and its models' processes, without shared memory that they
        share twice."""
        total = 0
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().uss
        return total

    def segments(self) -> set[Path]:
        """The shared memory that it has with its models: a file for each instance, until that
        ends."""
        maps = Path(f"/proc/{self.process.pid}/maps").read_text(encoding="utf-8").splitlines()
        return {
            Path(line[line.index("/dev/shm/") :])
            for line in maps
            if "/dev/shm/triton_python" in line
        }

    def end(self) -> int:
        """SIGTERM, then wait; returns the exit status. Raises: subprocess.TimeoutExpired."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(END_S)

    def kill(self) -> None:
        """SIGKILL to the server and its models' processes; then remove the shared memory, which
        that leaves behind."""
        shared = self.segments()
        for process in self._processes():
            process.kill()
        self.process.wait()
        for segment in shared:
            segment.unlink(missing_ok=True)

    def _processes(self) -> list[psutil.Process]:
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def _answers(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@contextlib.contextmanager
def running_server(
    environment: ServerEnvironment, repository: Path, folder: Path, *flags: str
) -> Iterator[Server]:
    """Start a server, wait until it is ready, and end it afterwards. folder: for its log and what
    it needs."""
    variables, backends = environment.with_tree(folder)
    ports = _free_ports(2)
    command = [
        environment.binary,
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        "--http-address=127.0.0.1",
        f"--http-port={ports[0]}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={ports[1]}",
        "--allow-metrics=false",
        "--disable-auto-complete-config",
        *flags,
    ]
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=variables, stdout=output, stderr=subprocess.STDOUT)
    server = Server(process, log, ports)
    try:
        server.wait_until(server.is_ready, "ready")
        yield server
    finally:
        if process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.end()
        if process.poll() is None:
            server.kill()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
