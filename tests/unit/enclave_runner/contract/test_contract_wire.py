"""Frames over a real socket pair: whole, cut, too long, with no, one or two files; descriptors never leak."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from enclave_runner.contract.codec import MAX_MESSAGE_BYTES, encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.wire import (
    AskLog,
    FailedReply,
    FetchSettlement,
    Hello,
    Pseudonym,
    RefusedReply,
    Settlement,
    receive_reply,
    receive_request,
    send,
)

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = socket.socketpair()
    with left, right:
        right.settimeout(10)
        yield left, right


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names of descriptors
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def refused_what(right: socket.socket) -> str:
    with pytest.raises(Refused) as caught:
        receive_request(right)
    assert caught.value.rule == "wire.malformed"
    return caught.value.facts["what"]


def test_a_request_and_its_file_arrive(pair: Pair) -> None:
    left, right = pair
    read, write = os.pipe()
    os.write(write, b"beside")
    send(left, AskLog(since=7), read)
    request, descriptor = receive_request(right)
    assert request == AskLog(since=7)
    assert descriptor is not None
    assert os.read(descriptor, 10) == b"beside"
    for number in (read, write, descriptor):
        os.close(number)


def test_a_request_without_a_file(pair: Pair) -> None:
    left, right = pair
    send(left, Hello())
    assert receive_request(right) == (Hello(), None)


def test_a_frame_in_single_bytes_and_two_frames_in_one_write(pair: Pair) -> None:
    left, right = pair
    body = frame(encode(FetchSettlement(ticket_id="票" * 500)))

    def trickle() -> None:
        for at in range(len(body)):
            left.sendall(body[at : at + 1])

    sender = threading.Thread(target=trickle)
    sender.start()
    assert receive_request(right)[0] == FetchSettlement(ticket_id="票" * 500)
    sender.join()
    left.sendall(frame(encode(Hello())) * 2)
    assert [receive_request(right)[0] for _ in range(2)] == [Hello(), Hello()]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 10])
def test_a_cut_frame_is_a_closed_wire(pair: Pair, count: int) -> None:
    left, right = pair
    left.sendall(frame(encode(AskLog(since=7)))[:count])
    left.close()
    with pytest.raises(Failed) as caught:
        receive_request(right)
    assert caught.value.code == "wire.closed"


@pytest.mark.parametrize("cut", [2, 4, 12])
def test_the_file_of_a_cut_frame_is_closed(pair: Pair, cut: int) -> None:
    left, right = pair
    socket.send_fds(left, [frame(encode(AskLog(since=7)))[:cut]], [0])
    left.close()
    with pytest.raises(Failed):
        receive_request(right)


@pytest.mark.parametrize("length", [MAX_MESSAGE_BYTES + 1, 0xFFFFFFFF])
def test_a_length_over_the_cap_is_refused_before_anything_is_read(pair: Pair, length: int) -> None:
    left, right = pair
    socket.send_fds(left, [struct.pack(">I", length)], [0])
    assert refused_what(right) == "length"


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b'{"type":"reboot"}', b'{"type":"hello","x":1}', b"\xff", b"[]"])
def test_a_body_that_is_no_request_is_refused_and_its_file_closed(pair: Pair, body: bytes) -> None:
    left, right = pair
    socket.send_fds(left, [frame(body)], [0])
    assert refused_what(right)


def test_a_reply_is_no_request(pair: Pair) -> None:
    left, right = pair
    send(left, Pseudonym(value="x"))
    assert refused_what(right)


@pytest.mark.parametrize("count", [2, 3, 20])
def test_more_than_one_file_is_refused_and_all_are_closed(pair: Pair, count: int) -> None:
    left, right = pair
    socket.send_fds(left, [frame(encode(Hello()))], [0] * count)
    assert refused_what(right) == "files"


def test_a_message_over_the_cap_is_not_sent(pair: Pair) -> None:
    left, _ = pair
    with pytest.raises(Failed) as caught:
        send(left, Settlement(receipt=None, release=b"x" * MAX_MESSAGE_BYTES, checkpoint=""))
    assert caught.value.code == "wire.too-long"


def test_replies_refusals_and_faults_reach_the_caller(pair: Pair) -> None:
    left, right = pair
    send(right, Pseudonym(value="ab"))
    assert receive_reply(left) == Pseudonym(value="ab")
    send(right, RefusedReply(rule="grant.uses", facts={"max": "3"}))
    with pytest.raises(Refused) as refused:
        receive_reply(left)
    assert (refused.value.rule, refused.value.facts) == ("grant.uses", {"max": "3"})
    send(right, FailedReply(code="job.broken", fault="fault-1"))
    with pytest.raises(Failed) as failed:
        receive_reply(left)
    assert (failed.value.code, failed.value.fault) == ("job.broken", "fault-1")


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", struct.pack(">I", 2) + b"{}", struct.pack(">I", 4) + b"null"])
def test_a_reply_that_is_none_is_a_fault_and_never_a_refusal(pair: Pair, data: bytes) -> None:
    """A refusal would say that the enclave did nothing; of a broken reply nobody knows."""
    left, right = pair
    right.sendall(data)
    with pytest.raises(Failed) as caught:
        receive_reply(left)
    assert caught.value.code == "wire.reply"
