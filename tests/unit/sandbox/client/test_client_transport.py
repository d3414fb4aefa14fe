"""HTTP against servers that break off, stall, lie about lengths, redirect, and flood."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from enclave_runner.contract.check import Check, CheckKind, VerificationMode
from enclave_runner.contract.errors import Failed, Refused, YuneiError
from sandbox.client.exchange import Exchange, Reply
from sandbox.client.transport import AsyncTransport, Door, Transport
from sandbox.client.verification import VerificationClient
from tests.support.platform_half import KEY, PRODUCT, Platform, bent
from tests.support.raw_server import BreakingLine, raw_server, read_request

QUICK = (0.0, 0.0, 0.0)
GET = Exchange("GET", "/v1/x", 100)


def send(url: str, exchange: Exchange = GET, **fields: object) -> Reply:
    transport = Transport(Door(url, KEY, pauses=QUICK, **fields))  # type: ignore[arg-type]
    try:
        return transport.send(exchange)
    finally:
        transport.close()


def send_async(url: str, exchange: Exchange = GET, **fields: object) -> Reply:
    async def go() -> Reply:
        transport = AsyncTransport(Door(url, KEY, pauses=QUICK, **fields))  # type: ignore[arg-type]
        try:
            return await transport.send(exchange)
        finally:
            await transport.close()

    return anyio.run(go)


BOTH = pytest.mark.parametrize("sender", [send, send_async])


def saying(*answers: bytes) -> tuple[Callable[[socket.socket], None], list[bytes]]:
    """A conversation that answers the n-th request with the n-th of these, from then on with the last."""
    seen: list[bytes] = []

    def converse(connection: socket.socket) -> None:
        request = read_request(connection)
        if request:
            seen.append(request)
            connection.sendall(answers[min(len(seen), len(answers)) - 1])

    return converse, seen


def http(body: bytes = b"{}", status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Content-Type: application/json", *headers]
    lines.append("Connection: close")  # as the server does: else the next request may go into a closed connection
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@BOTH
def test_an_answer_comes_back_as_it_is(sender: Callable[..., Reply]) -> None:
    converse, seen = saying(http(b'{"a":1}'))
    with raw_server(converse) as url:
        assert sender(url) == Reply(200, "application/json", b'{"a":1}')
    assert b"yunei-client" in seen[0]
    assert f"Bearer {KEY}".encode() in seen[0]


def make_platform() -> Platform:
    check = Check(dataset_id="licences", attribute="level", kind=CheckKind.EXISTS, modes=(VerificationMode.PLAIN,))
    return Platform(check, {"S1": "1"})


def test_a_lost_answer_is_asked_for_again_byte_for_byte_and_paid_once() -> None:
    platform = make_platform()
    with platform.serving() as behind:
        line = BreakingLine(behind, {1, 2})
        with raw_server(line.converse) as url:
            door = Door(url, KEY, pauses=QUICK)
            with VerificationClient(url, KEY, PRODUCT, trusted=platform.trusted, keep_hints=False, door=door) as client:
                answer = client.verify("S1")
    assert answer.is_yes
    offer, first, second, third = line.passed
    assert b"/offer" in offer
    assert first == second == third
    assert (len(platform.calls), platform.charged) == (1, 1)


@BOTH
def test_a_platform_that_is_away_is_tried_a_few_times_and_given_up(sender: Callable[..., Reply]) -> None:
    converse, seen = saying(b"")
    with raw_server(converse) as url, pytest.raises(Failed) as caught:
        sender(url)
    assert (caught.value.code, len(seen)) == ("client.unreachable", 4)
    with pytest.raises(Failed, match="unreachable"):
        sender(url)


@BOTH
def test_a_busy_platform_is_asked_again(sender: Callable[..., Reply]) -> None:
    converse, seen = saying(http(b"", "503 Service Unavailable", "Retry-After: 86400"), http(b"", "502 x"), http())
    with raw_server(converse) as url:
        assert sender(url).status == 200
    assert len(seen) == 3


@BOTH
def test_what_stays_busy_is_told_as_it_is(sender: Callable[..., Reply]) -> None:
    converse, seen = saying(http(b"{}", "503 Service Unavailable"))
    with raw_server(converse) as url:
        assert sender(url).status == 503
    assert len(seen) == 4


@BOTH
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_a_redirect_is_never_followed_and_the_key_goes_nowhere_else(sender: Callable[..., Reply], status: str) -> None:
    thief, stolen = saying(http())
    with raw_server(thief) as elsewhere:
        converse, seen = saying(http(b"", status, f"Location: {elsewhere}/"))
        with raw_server(converse) as url, pytest.raises(Refused) as caught:
            sender(url)
    assert (caught.value.rule, len(seen), stolen) == ("client.answer", 1, [])


@BOTH
@pytest.mark.parametrize("declared", [True, False])
def test_a_flood_is_cut_at_its_cap_and_not_asked_for_again(sender: Callable[..., Reply], declared: bool) -> None:
    sent = []

    def flood(connection: socket.socket) -> None:
        read_request(connection)
        length = b"Content-Length: 1000000000000\r\n" if declared else b""
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n")
        for _ in range(10_000):
            connection.sendall(b"x" * 65536)
            sent.append(65536)

    with raw_server(flood) as url, pytest.raises(Refused) as caught:
        sender(url)
    assert (caught.value.rule, caught.value.facts) == ("client.answer", {"what": "longer than it can be"})
    assert sum(sent) < 100 << 20


@BOTH
def test_a_trickle_ends_at_the_deadline(sender: Callable[..., Reply]) -> None:
    def trickle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n")
        for _ in range(90):
            connection.sendall(b"x")
            time.sleep(0.05)

    with raw_server(trickle) as url, pytest.raises(Failed, match="unreachable"):
        sender(url, seconds=0.3)


@BOTH
def test_silence_ends_at_the_deadline(sender: Callable[..., Reply]) -> None:
    def silent(connection: socket.socket) -> None:
        read_request(connection)
        connection.recv(1)

    with raw_server(silent) as url, pytest.raises(Failed, match="unreachable"):
        sender(url, seconds=0.2)


MALFORMED = [
    b"\x00\x01\x02",
    b"HTTP/1.1\r\n\r\n",
    b"HTTP/9.9 200 OK\r\n\r\n",
    b"HTTP/1.1 99999 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\nhello",
    b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"x" * 200_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2\r\n\r\n",
]


@BOTH
@pytest.mark.parametrize("answer", MALFORMED, ids=range(len(MALFORMED)))
def test_what_is_no_http_is_a_lost_answer_or_an_empty_one(sender: Callable[..., Reply], answer: bytes) -> None:
    converse, _ = saying(answer)
    with raw_server(converse) as url:
        try:
            reply = sender(url, seconds=2.0)
        except YuneiError:
            return
    assert len(reply.body) <= GET.max_reply


def test_an_answer_in_an_encoding_that_was_not_asked_for_is_refused() -> None:
    platform = make_platform()
    platform.lies.sent = lambda sent: bent(sent, headers={"content-encoding": "br"})
    with platform.serving() as url, pytest.raises(Refused, match="encoding"):
        send(url, Exchange("GET", f"/v1/products/{PRODUCT}/offer", 100_000))
    assert platform.requests[0][2]["accept-encoding"] == "identity"


def test_a_proxy_of_the_environment_never_sees_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    thief, stolen = saying(http())
    converse, _ = saying(http())
    with raw_server(thief) as proxy, raw_server(converse) as url:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert send(url).status == 200
        assert send_async(url).status == 200
    assert stolen == []


def test_cookies_are_not_kept() -> None:
    converse, seen = saying(http(b"{}", "200 OK", "Set-Cookie: mark=1; Path=/"))
    with raw_server(converse) as url:
        transport = Transport(Door(url, KEY, pauses=QUICK))
        transport.send(GET)
        transport.send(GET)
        transport.close()
    assert b"cookie" not in seen[1].lower()


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://platform.example", KEY),
        ("http://192.0.2.7:8440", KEY),
        ("http://localhost.example", KEY),
        ("ftp://localhost", KEY),
        ("https://", KEY),
        ("https://user:secret@platform.example", KEY),
        ("https://platform.example/?x=1", KEY),
        ("https://platform.example/#x", KEY),
        ("https://platform.example\n", KEY),
        ("platform.example", KEY),
        ("", KEY),
        ("https://platform.example", ""),
        ("https://platform.example", "short"),
        ("https://platform.example", "key\r\nX-Injected: 1"),
        ("https://platform.example", "schlüssel-der-bank"),
        ("https://platform.example", "k" * 300),
    ],
)
def test_an_address_without_tls_or_a_malformed_key_is_refused(url: str, key: str) -> None:
    with pytest.raises(ValueError, match=r"address|API key") as caught:
        Door(url, key)
    assert "secret" not in str(caught.value)


def test_a_key_is_in_no_representation() -> None:
    assert KEY not in repr(Door("https://platform.example", KEY))
    with pytest.raises(ValueError, match="product"):
        VerificationClient("https://platform.example", KEY, "../x", trusted="ed25519:" + "0" * 64)
    with pytest.raises(ValueError, match="trusted"):
        VerificationClient("https://platform.example", KEY, "x", trusted=())


def test_a_certificate_that_nobody_trusts_is_refused(tmp_path: Path) -> None:
    """Against a TLS server with a certificate of its own: unreachable, and the key was never sent."""
    certificate = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    seen: list[bytes] = []

    def converse(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            seen.append(read_request(secured))
            secured.sendall(http())

    with raw_server(converse) as url:
        address = url.replace("http", "https").replace("127.0.0.1", "localhost")
        with pytest.raises(Failed, match="unreachable"):
            send(address)
        assert seen == []
        assert send(address, ca=certificate).status == 200
    with pytest.raises(Failed, match="unreadable"):
        send(address, ca=tmp_path / "none.pem")


def self_signed(folder: Path) -> Path:
    """A key and a certificate for localhost, in one file."""
    now = datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = (
        builder.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    )
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "server.pem"
    path.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    return path
