"""Real exporters for the tests, and the Prometheus that scrapes them: see `servers.Server`.

etcd and the Kubernetes API server are built from their modules, the others are Debian's.
"""

import http.client
import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar, Final

from servers import BUILD, Server, ServerError, steady_port

_BUILT: Final = {"etcd": "etcd", "kube-apiserver": "the Kubernetes API server"}
_GO: Final = "`make parts` builds it, with Go 1.25 or newer"
_DEBIAN: Final = ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter", "openssl")
_ASK_S: Final = 10.0


def exporters_missing() -> str:
    """Tell what is missing of the exporters and how to get it; nothing when all is there."""
    for part, title in _BUILT.items():
        if what := part_missing(part, title):
            return what
    for program in _DEBIAN:
        if shutil.which(program) is None:
            return f"the program {program} (Debian has a package of that name)"
    return ""


def part_missing(part: str, title: str) -> str:
    """Tell that a part written in Go is not built, and how to build it; nothing when it is."""
    return "" if built(part).exists() else f"{title} ({_GO})"


@cache
def built(part: str) -> Path:
    """Find the program of a part written in Go, or where it would be."""
    told = subprocess.run([BUILD, "--where", part], capture_output=True, text=True, check=True)
    return Path(told.stdout.strip()) / part


@dataclass
class HttpServer(Server):
    """A server that tells over HTTP whether it is ready.

    Attributes:
        job: what Prometheus calls it.
    """

    job: ClassVar[str]
    ready: ClassVar[str] = "/-/ready"

    def scrape(self) -> Mapping[str, Any]:
        """Tell Prometheus how to scrape it."""
        return {"job_name": self.job, "static_configs": [{"targets": [self.address]}]}

    def connect(self) -> http.client.HTTPConnection:
        """Make a connection to it, for one thread."""
        return http.client.HTTPConnection(self.address, timeout=_ASK_S)

    def headers(self) -> dict[str, str]:
        """Tell what lets a request in."""
        return {}

    def _prepare(self) -> None:
        self.data.mkdir(exist_ok=True)

    def _answers(self, begin: int) -> bool:  # noqa: ARG002 - Asking it is better than its log.
        connection = self.connect()
        try:
            connection.request("GET", self.ready, headers=self.headers())
            return connection.getresponse().status == HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


@dataclass
class Etcd(HttpServer):
    """etcd 3.6, one member."""

    peer_port: int = field(default_factory=steady_port)

    name = "etcd"
    job = "etcd"
    ready = "/readyz"

    def _command(self) -> list[str]:
        client, peer = f"http://{self.address}", f"http://127.0.0.1:{self.peer_port}"
        return [
            *(str(built("etcd")), "--name=one", f"--data-dir={self.data}"),
            *(f"--listen-client-urls={client}", f"--advertise-client-urls={client}"),
            *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"),
            f"--initial-cluster=one={peer}",
        ]


@dataclass
class KubeApiserver(HttpServer):
    """The Kubernetes API server alone, on an etcd: no controllers, no nodes.

    Attributes:
        etcd: the address of its etcd.
        token: lets an administrator in.
        guest_token: lets somebody in who may do nothing.
    """

    etcd: str = ""
    token: str = field(default_factory=lambda: secrets.token_hex(8), repr=False)
    guest_token: str = field(default_factory=lambda: secrets.token_hex(8), repr=False)

    name = "the Kubernetes API server"
    job = "apiserver"
    ready = "/readyz"

    def scrape(self) -> Mapping[str, Any]:
        """Tell Prometheus how to scrape it."""
        return {
            **super().scrape(),
            "scheme": "https",
            "authorization": {"credentials": self.token},
            "tls_config": {"insecure_skip_verify": True},
        }

    def connect(self) -> http.client.HTTPConnection:
        """Make a connection to it, for one thread; it has made its certificate itself."""
        trusting = ssl.create_default_context()
        trusting.check_hostname = False
        trusting.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(self.address, timeout=_ASK_S, context=trusting)

    def headers(self) -> dict[str, str]:
        """Tell what lets an administrator's request in."""
        return {"Authorization": f"Bearer {self.token}"}

    def _prepare(self) -> None:
        super()._prepare()
        key = str(self.data / "accounts.key")
        self._once("openssl", "genrsa", "-out", key, "2048")
        self._once("openssl", "rsa", "-in", key, "-pubout", "-out", f"{key}.pub")
        tokens = self.data / "tokens.csv"
        tokens.write_text(f"{self.token},admin,1,system:masters\n{self.guest_token},guest,2\n")

    def _command(self) -> list[str]:
        key = self.data / "accounts.key"
        return [
            *(str(built("kube-apiserver")), f"--etcd-servers=http://{self.etcd}"),
            *("--bind-address=127.0.0.1", f"--secure-port={self.port}", f"--cert-dir={self.data}"),
            *(f"--service-account-key-file={key}.pub", f"--service-account-signing-key-file={key}"),
            "--service-account-issuer=https://kubernetes.default.svc",
            *(f"--token-auth-file={self.data / 'tokens.csv'}", "--authorization-mode=RBAC"),
            "--service-cluster-ip-range=10.0.0.0/24",
        ]


@dataclass
class NodeExporter(HttpServer):
    """node-exporter, with the collectors that Debian switches on."""

    name = "node-exporter"
    job = "node-exporter"
    ready = "/"

    def _command(self) -> list[str]:
        return ["prometheus-node-exporter", f"--web.listen-address={self.address}"]


@dataclass
class Alertmanager(HttpServer):
    """Alertmanager, alone and with nobody to tell."""

    name = "Alertmanager"
    job = "alertmanager"

    def _prepare(self) -> None:
        super()._prepare()
        nobody = {"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}
        (self.folder / "alertmanager.yml").write_text(json.dumps(nobody))

    def _command(self) -> list[str]:
        return [
            *("prometheus-alertmanager", f"--config.file={self.folder / 'alertmanager.yml'}"),
            *(f"--storage.path={self.data}", f"--web.listen-address={self.address}"),
            "--cluster.listen-address=",
        ]


@dataclass
class Prometheus(HttpServer):
    """Prometheus: it scrapes others and itself, and sends all it has by remote write.

    Attributes:
        config: its whole configuration; JSON is YAML too. Itself is added to the scraped.
        features: what is switched on with `--enable-feature`.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    features: tuple[str, ...] = ()

    name = "Prometheus"
    job = "prometheus"

    def _prepare(self) -> None:
        super()._prepare()
        self._configure([*self.config["scrape_configs"], self.scrape()])

    def _configure(self, scraped: Sequence[Mapping[str, Any]]) -> None:
        config = json.dumps({**self.config, "scrape_configs": scraped})
        (self.folder / "prometheus.yml").write_text(config)

    def rest(self) -> None:
        """Scrape nothing any more: it soon marks all series as ended, and has sent all it has."""
        self._configure([])
        os.kill(self.pid, signal.SIGHUP)

    def _command(self) -> list[str]:
        return [
            *(self._program(), f"--config.file={self.folder / 'prometheus.yml'}"),
            *(f"--storage.tsdb.path={self.data}", f"--web.listen-address={self.address}"),
            *(f"--enable-feature={feature}" for feature in self.features),
        ]

    def _program(self) -> str:
        return "prometheus"

    def query(self, promql: str, at_ms: float) -> list[tuple[dict[str, str], float]]:
        """Ask for an instant vector: the labels and value of each of its elements.

        Raises:
            ServerError: it refuses the query.
        """
        asked = urllib.parse.urlencode({"query": promql, "time": f"{at_ms / 1000:.3f}"})
        connection = self.connect()
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/api/v1/query", asked, form)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        if answer["status"] != "success":
            raise ServerError(f"{self.name} refuses {promql}: {answer['error']}")
        return [(one["metric"], float(one["value"][1])) for one in answer["data"]["result"]]
