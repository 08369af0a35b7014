"""TLS: with right and wrong certificates on both sides, renewed while the gateway runs."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from certificates import Authority, Issued
from front import PATH, opened, turned_away
from watchkeep.schemas.errors import ConfigError
from watchkeep.schemas.settings import Gateway, Sender, Tls
from watchkeep.streams import tls
from watchkeep.streams.config import load
from watchkeep.streams.tls import Certificates


@pytest.fixture
def authority(tmp_path: Path, need_program: Callable[[str], str]) -> Authority:
    need_program("openssl")
    return Authority(tmp_path, "ours")


@pytest.fixture
def other(tmp_path: Path, need_program: Callable[[str], str]) -> Authority:
    need_program("openssl")
    return Authority(tmp_path, "theirs")


@pytest.fixture
def own(authority: Authority) -> Issued:
    return authority.issue("gateway", "DNS:localhost", "IP:127.0.0.1")


def served(own: Issued, client_ca: str = "", *senders: Sender) -> Gateway:
    used = Tls(certificate=own.certificate, key=own.key, client_ca=client_ca)
    return Gateway(tls=used, senders=senders)


def trusting(authority: Authority, shown: Issued | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.file)
    if shown:
        context.load_cert_chain(shown.certificate, shown.key)
    return context


async def ask(
    port: int, context: ssl.SSLContext, path: str = PATH, token: str = ""
) -> tuple[int, str]:
    method = "POST" if path == PATH else "GET"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session:
        url = f"https://127.0.0.1:{port}{path}"
        async with session.request(method, url, data=b"x", headers=headers) as answer:
            return answer.status, await answer.text()


async def test_who_trusts_the_authority_can_send(authority: Authority, own: Issued) -> None:
    async with opened(served(own)) as port:
        assert await ask(port, trusting(authority)) == (200, "1 ")


async def test_who_does_not_trust_it_is_not_talked_to(other: Authority, own: Issued) -> None:
    before = turned_away("TLS handshake failed")
    async with opened(served(own)) as port:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await ask(port, trusting(other))
        with pytest.raises(aiohttp.ClientConnectionError):
            async with aiohttp.request("POST", f"http://127.0.0.1:{port}{PATH}"):
                pass
    assert turned_away("TLS handshake failed") - before == 2


async def test_old_versions_of_tls_are_refused(authority: Authority, own: Issued) -> None:
    context = trusting(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with opened(served(own)) as port:
        with pytest.raises(aiohttp.ClientConnectorError):
            await ask(port, context)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        assert (await ask(port, context))[0] == 200


async def test_a_certificate_names_its_sender(authority: Authority, own: Issued) -> None:
    senders = (
        Sender(name="a", certificate="prometheus-a"),
        Sender(name="b", certificate="spiffe://shop/b"),
        Sender(name="c", certificate="c.shop.example"),
        Sender(name="d", bearer_token="d"),
    )
    b = authority.issue("some-b", "URI:spiffe://shop/b")
    c = authority.issue("some-c", "DNS:c.shop.example")
    async with opened(served(own, authority.file, *senders)) as port:
        a = trusting(authority, authority.issue("prometheus-a"))
        assert await ask(port, a) == (200, "1 a")
        assert await ask(port, trusting(authority, b)) == (200, "1 b")
        assert await ask(port, trusting(authority, c)) == (200, "1 c")
        assert await ask(port, trusting(authority), token="d") == (200, "1 d")
        for path in ("/metrics", "/healthz", "/readyz"):
            assert (await ask(port, trusting(authority), path))[0] == 200


async def test_a_certificate_that_does_not_fit_is_refused(
    authority: Authority, other: Authority, own: Issued
) -> None:
    gateway = served(own, authority.file, Sender(name="a", certificate="prometheus-a"))
    stranger = authority.issue("prometheus-b", "DNS:b.example")
    forged = other.issue("prometheus-a", file="forged")
    async with opened(gateway) as port:
        status, text = await ask(port, trusting(authority))
        assert (status, text.partition(":")[0]) == (401, "no credentials")
        status, text = await ask(port, trusting(authority, stranger))
        assert (status, text.partition(":")[0]) == (401, "unknown certificate")
        with pytest.raises(aiohttp.ClientError):
            await ask(port, trusting(authority, forged))


async def test_an_authority_alone_lets_in_all_that_it_signed(
    authority: Authority, own: Issued
) -> None:
    async with opened(served(own, authority.file)) as port:
        known = trusting(authority, authority.issue("prometheus-x"))
        assert await ask(port, known) == (200, "1 prometheus-x")
        assert (await ask(port, trusting(authority)))[0] == 401


async def test_a_renewed_certificate_is_taken_up_while_running(
    authority: Authority, other: Authority, own: Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "_LOOK_S", 0.0)
    renewed = other.issue("gateway", "IP:127.0.0.1", file="renewed")
    async with opened(served(own)) as port:
        connector = aiohttp.TCPConnector(ssl=trusting(authority))
        async with aiohttp.ClientSession(connector=connector) as session:
            url = f"https://127.0.0.1:{port}{PATH}"
            async with session.post(url) as answer:
                assert answer.status == 200
            # The certificate comes first, and doesn't fit the key that is still there.
            shutil.copy(renewed.certificate, own.certificate)
            assert (await ask(port, trusting(authority)))[0] == 200
            shutil.move(renewed.key, own.key)
            assert (await ask(port, trusting(other)))[0] == 200
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await ask(port, trusting(authority))
            async with session.post(url) as answer:  # The old connection goes on.
                assert answer.status == 200


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (("none", "own.key", ""), r"^gateway\.tls\.certificate: .* can't be read: No such file"),
        (("own.pem", "none", ""), r"^gateway\.tls\.key: .* can't be read: No such file"),
        (("own.pem", "own.key", "none"), r"^gateway\.tls\.client_ca: .* can't be read"),
        (("own.pem", "ours.key", ""), r"^gateway\.tls\.key: .* is not the key of .*own.pem"),
        (("junk", "own.key", ""), r"^gateway\.tls\.certificate: .* holds no certificate"),
        (("own.pem", "junk", ""), r"^gateway\.tls\.key: .* can't be used"),
        (("own.pem", "locked.key", ""), r"^gateway\.tls\.key: .* is encrypted"),
        (("own.pem", "own.key", "junk"), r"^gateway\.tls\.client_ca: .* holds no certificate"),
    ],
)
def test_files_that_cannot_be_used_are_told_by_their_key(
    tmp_path: Path, authority: Authority, files: tuple[str, str, str], told: str
) -> None:
    own = authority.issue("own")
    (tmp_path / "junk").write_text("junk")
    (tmp_path / "locked.key").write_bytes(_locked(own))
    certificate, key, client_ca = (str(tmp_path / name) if name else "" for name in files)
    with pytest.raises(ConfigError, match=told) as refused:
        Certificates(Tls(certificate=certificate, key=key, client_ca=client_ca))
    assert "\n" not in str(refused.value)


def _locked(own: Issued) -> bytes:
    command = ["openssl", "pkcs8", "-topk8", "-in", own.key, "-passout", "pass:secret"]
    return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('certificate = "c"', "certificate and key go together"),
        ('key = "c"', "certificate and key go together"),
        ('client_ca = "c"', "client_ca needs a certificate"),
    ],
)
def test_settings_that_do_not_fit_are_told(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "watchkeep.toml"
    file.write_text(f"[gateway.tls]\n{text}\n")
    with pytest.raises(ConfigError, match=r":1: gateway\.tls: ") as refused:
        load(file)
    assert told in str(refused.value)


async def test_a_handshake_that_does_not_end_hinders_nobody(
    authority: Authority, own: Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watchkeep.streams.connections._HANDSHAKE_S", 0.5)
    async with opened(served(own)) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        assert (await ask(port, trusting(authority)))[0] == 200
        async with asyncio.timeout(5):
            for reader, writer in silent:
                assert await reader.read() == b""
                writer.close()
