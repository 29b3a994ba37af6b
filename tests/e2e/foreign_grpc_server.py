"""A gRPC server that is none of ours, listening where PORT says. Messages are bytes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc


def echo(message: bytes, context: Any) -> bytes:
    seen = dict(context.invocation_metadata())
    context.set_trailing_metadata((("x-seen", seen.get("x-mine", "")), ("x-came-by", seen.get("k-proxy-request", ""))))
    return message


def talk(messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
    for message in messages:
        yield b"you said " + message


def count(message: bytes, context: Any) -> Iterator[bytes]:
    for number in range(int(message)):
        yield b"%d" % number


def join(messages: Iterator[bytes], context: Any) -> bytes:
    return b" ".join(messages)


def refuse(message: bytes, context: Any) -> bytes:
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today")
    raise AssertionError("abort raises")


def wait(message: bytes, context: Any) -> bytes:
    """Until the client stops waiting."""
    over = threading.Event()
    context.add_callback(over.set)
    over.wait()
    return message


def main() -> None:
    server = grpc.server(ThreadPoolExecutor(8))
    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
        "Wait": grpc.unary_unary_rpc_method_handler(wait),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Join": grpc.stream_unary_rpc_method_handler(join),
        "Talk": grpc.stream_stream_rpc_method_handler(talk),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.Talker", handlers),))
    server.add_insecure_port(f"127.0.0.1:{os.environ['PORT']}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
