"""Real proxies in front of a gateway, each with the configuration that docs/proxies.md gives for it.

Rule 1: the page's text is run as it stands, but for addresses, names and files; what a case changes besides is an
edit that it names.
Rule 2: a proxy runs in the foreground, from its own folder, and is ended by its own id.
"""

import datetime as dt
import ipaddress
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import NamedTuple, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.e2e.process import ROOT, free_port

PAGE = ROOT / "docs" / "proxies.md"
NAME = "localhost"
SBIN = "/usr/sbin:/usr/local/sbin:/sbin"
START_WITHIN_S = 20

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {config}
}}
"""
APACHE = """
ServerRoot {folder}
DefaultRuntimeDir {folder}
PidFile {folder}/apache.pid
ErrorLog /dev/stderr
ServerName {name}
{modules}
{user}
StartServers 1
Listen 127.0.0.1:{http}
Listen 127.0.0.1:{https}
{config}
"""
APACHE_MODULES = (
    "mpm_event",
    "authz_core",
    "socache_shmcb",
    "proxy",
    "proxy_http",
    "proxy_wstunnel",
    "ssl",
    "http2",
    "filter",
    "deflate",
)
CADDY = """
    admin off
    auto_https disable_redirects
    skip_install_trust
    default_bind 127.0.0.1
    http_port {http}
    https_port {https}
"""


class Edit(NamedTuple):
    """A change of the page's configuration: every match of `pattern`."""

    pattern: str
    by: str


class Certificate(NamedTuple):
    crt: Path
    key: Path
    pem: Path

    @property
    def trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.crt))


def certificate(folder: Path) -> Certificate:
    """A self-signed one for this machine's loopback."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName(NAME), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    crt = signed.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    made = Certificate(folder / "runcast.crt", folder / "runcast.key", folder / "runcast.pem")
    for path, content in zip(made, (crt, private, crt + private), strict=True):
        path.write_bytes(content)
    return made


def documented(kind: str) -> str:
    """The configuration that the page gives for a kind of proxy."""
    found = re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(found) == 1, f"one configuration of {kind}"
    return found[0]


class Proxy:
    """A proxy of `kind` before the gateway's port, with `edits` of the page's configuration for it."""

    def __init__(self, kind: str, folder: Path, upstream: int, made: Certificate, *edits: Edit) -> None:
        self.kind = kind
        self.folder = folder
        self.http = free_port()
        self.https = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        config = documented(kind)
        for pattern, by in edits:
            config, changed = re.subn(pattern, by, config, flags=re.MULTILINE)
            assert changed, pattern
        places = {
            "127.0.0.1:8000": f"127.0.0.1:{upstream}",
            "/etc/ssl/runcast.": f"{made.crt.parent}/runcast.",
            **PORTS[kind](self.http, self.https),
        }
        for place, by in places.items():
            assert place in config, place
            config = config.replace(place, by)
        config = config.replace("runcast.example", NAME)  # HAProxy takes any name
        self._command = getattr(self, f"_{kind}")(config)

    def url(self, *, tls: bool) -> str:
        return f"https://{NAME}:{self.https}" if tls else f"http://{NAME}:{self.http}"

    @property
    def output(self) -> str:
        return (self.folder / "proxy.log").read_text()

    def start(self) -> Self:
        path = f"{os.environ['PATH']}:{SBIN}"
        program = shutil.which(self._command[0], path=path)
        assert program, f"{self._command[0]} is not installed"
        folders = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(self.folder))
        with (self.folder / "proxy.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, *self._command[1:]], cwd=self.folder, env={"PATH": path, **folders}, stdout=log, stderr=log
            )
        end = time.monotonic() + START_WITHIN_S
        while not (_answers(self.http) and _answers(self.https)):
            assert self._process.poll() is None, self.output
            assert time.monotonic() < end, self.output
            time.sleep(0.02)
        return self

    def stop(self, number: int = signal.SIGTERM) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"{self.kind} did not stop:\n{self.output}") from None

    def restart(self) -> None:
        """As an operator does it in a hurry: what is open is cut."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _write(self, text: str) -> str:
        path = self.folder / "proxy.conf"
        path.write_text(text)
        return str(path)

    def _nginx(self, config: str) -> list[str]:
        main = self._write(NGINX.format(folder=self.folder, config=config))
        return ["nginx", "-e", "stderr", "-p", str(self.folder), "-c", main]

    def _haproxy(self, config: str) -> list[str]:
        return ["haproxy", "-db", "-f", self._write(config)]

    def _caddy(self, config: str) -> list[str]:
        options, opened, sites = config.partition("{\n")
        ports = CADDY.format(http=self.http, https=self.https)
        return ["caddy", "run", "--adapter", "caddyfile", "--config", self._write(options + opened + ports + sites)]

    def _apache(self, config: str) -> list[str]:
        modules = "\n".join(
            f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in APACHE_MODULES
        )
        # It refuses to serve as root; its threads need no file.
        user = "User nobody\nGroup nogroup" if os.getuid() == 0 else ""
        ports = {"http": self.http, "https": self.https}
        main = self._write(
            APACHE.format(folder=self.folder, name=NAME, modules=modules, user=user, config=config, **ports)
        )
        return ["apache2", "-D", "FOREGROUND", "-f", main]


PORTS = {
    "nginx": lambda http, https: {
        "listen 80;": f"listen 127.0.0.1:{http};",
        "listen 443 ": f"listen 127.0.0.1:{https} ",
    },
    "haproxy": lambda http, https: {"bind :80": f"bind 127.0.0.1:{http}", "bind :443": f"bind 127.0.0.1:{https}"},
    "caddy": lambda http, https: {},
    "apache": lambda http, https: {"*:80": f"127.0.0.1:{http}", "*:443": f"127.0.0.1:{https}"},
}


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
