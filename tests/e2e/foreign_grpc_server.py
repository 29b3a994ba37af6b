"""A gRPC server that is none of ours, listening where PORT says. Messages are bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc


def echo(message: bytes, context: Any) -> bytes:
    return message


def talk(messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
    for message in messages:
        yield b"you said " + message


def main() -> None:
    server = grpc.server(ThreadPoolExecutor(4))
    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Talk": grpc.stream_stream_rpc_method_handler(talk),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.Talker", handlers),))
    server.add_insecure_port(f"127.0.0.1:{os.environ['PORT']}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
