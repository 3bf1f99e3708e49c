"""A real nginx with a certificate of its own, configured with what docs/security.md says."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

DOCUMENT = Path(__file__).parent.parent / "docs" / "security.md"
TIMEOUT_S = 30.0
_PLACES = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
# As the user of the service, so that nothing but its headers tells the proxy from that user.
_FRAME = """\
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
{user}
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{snippet}
}}
"""


def find_program() -> str | None:
    """nginx, if it and OpenSSL's program, which makes the certificate, are installed."""
    return shutil.which("nginx", path=_PLACES) if shutil.which("openssl") else None


def documented() -> str:
    """The configuration that the document gives."""
    found = re.findall(
        r"^```nginx\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert len(found) == 1
    return str(found[0])


def free_port() -> int:
    """A port that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@dataclass(frozen=True)
class Proxy:
    """A running nginx."""

    url: str
    certificate: Path

    @property
    def context(self) -> ssl.SSLContext:
        """Trusts it."""
        return ssl.create_default_context(cafile=str(self.certificate))


@contextmanager
def running_nginx(program: str, folder: Path, port: int, service: str) -> Iterator[Proxy]:
    """nginx at `port` in front of the service at that URL, as localhost."""
    certificate, key = folder / "pem", folder / "key"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    subprocess.run([*make, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    configuration = folder / "conf"
    configuration.write_text(
        _FRAME.format(
            folder=folder,
            user="user root;" if os.getuid() == 0 else "",
            snippet=_adapted(port, service, certificate, key),
        )
    )
    with subprocess.Popen([program, "-c", configuration, "-p", folder], stderr=subprocess.PIPE) as nginx:
        try:
            _wait_for(nginx, port)
            yield Proxy(f"https://localhost:{port}", certificate)
        finally:
            nginx.terminate()
            nginx.communicate(timeout=TIMEOUT_S)


def _adapted(port: int, service: str, certificate: Path, key: Path) -> str:
    snippet = documented()
    for said, here in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("http://127.0.0.1:8080;", f"{service};"),
        ("/etc/ssl/jobs.example.org.pem", str(certificate)),
        ("/etc/ssl/jobs.example.org.key", str(key)),
        ("server_name jobs.example.org;", "server_name localhost;"),
    ):
        assert snippet.count(said) == 1, said
        snippet = snippet.replace(said, here)
    return snippet


def _wait_for(nginx: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while nginx.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.01)
    nginx.kill()
    raise AssertionError(f"nginx does not answer: {nginx.communicate()[1].decode()}")
