"""What a server is told by its command line and environment: KServe's flags, the node's variables.

KServe's flags that mean nothing here are accepted and ignored, as KServe ignores flags that it does not know.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ladle.server.batch_queue import BatchSettings
from ladle.server.payload_events import PayloadLogSettings
from ladle.server.queue_settings import QueueSettings, flag, number

HTTP_PORT = 8080
"""KServe's --http_port."""
GRPC_PORT = 8081
"""KServe's --grpc_port."""
GRPC_MESSAGE_BYTES_MAX = 8 * 1024 * 1024
"""Longest gRPC message either way; KServe's --grpc_max_send_message_length."""
MODEL_DIRECTORY = "/mnt/models"
"""Where KServe's storage initializer puts models."""

_ALL_ADDRESSES = "0.0.0.0"  # noqa: S104  # A pod serves on all its addresses; on one machine the node says 127.0.0.1.


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """One server's ports, model and limits."""

    host: str = _ALL_ADDRESSES
    http_port: int = HTTP_PORT
    grpc_port: int | None = None
    """For gRPC; None for no such port."""
    grpc_port_shared: bool = False
    """Whether that port answers REST over HTTP/1.1 too: in a pod of Knative's, all requests come in at one port."""
    grpc_message_bytes_max: int = GRPC_MESSAGE_BYTES_MAX
    awaited_port: int | None = None
    """Of a server on this machine that has to listen before this one does; None for none. A transformer in the pod of its
    predictor would be asked before that one can answer."""
    admin_port: int | None = None
    """Statistics and drain; None for no such port."""
    model_name: str = "model"
    model_directory: Path = Path(MODEL_DIRECTORY)
    threads: int = field(default_factory=lambda: min(4, os.cpu_count() or 1))
    """Calls of one thread-safe model that may run at once. KServe's --max_threads is 4."""
    native_threads: int = 1
    """Threads of a model's own library for one call (KServe's --nthread)."""
    workers: int = 1
    """Processes that share the ports (KServe's --workers)."""
    access_log: bool = False
    """Whether each request gets a line in the log."""
    docs: bool = False
    """Whether /docs and /openapi.json are served (KServe's --enable_docs_url)."""
    batching: BatchSettings | None = None
    """Whether and how requests are put together; None for one by one."""
    payload_log: PayloadLogSettings | None = None
    """Where requests and answers are told as events; None for nowhere."""
    queue: QueueSettings = field(default_factory=QueueSettings)

    @classmethod
    def parse(cls, argv: Sequence[str], env: Mapping[str, str]) -> ServerOptions:
        """Flags of KServe's servers; ports that the node chose (LADLE_HTTP_PORT and its like) win over flags."""
        flags, _ = _parser(env).parse_known_args(with_underscores(argv))
        return cls(
            host=env.get("LADLE_HOST") or _ALL_ADDRESSES,
            http_port=int(number(env, "LADLE_HTTP_PORT", flags.http_port)),
            grpc_port=_grpc_port(flags, env),
            grpc_port_shared=flag(env, "LADLE_GRPC_PORT_SHARED", default=False),
            grpc_message_bytes_max=max(flags.grpc_max_send_message_length, flags.grpc_max_receive_message_length),
            awaited_port=int(number(env, "LADLE_AWAITED_PORT", 0)) or None,
            admin_port=int(number(env, "LADLE_ADMIN_PORT", 0)) or None,
            model_name=flags.model_name,
            model_directory=Path(flags.model_dir.removeprefix("file://")),
            threads=max(1, flags.max_threads),
            native_threads=max(1, flags.nthread),
            workers=max(1, flags.workers),
            access_log=_says_yes(flags.access_log) or flags.access_log_format is not None,
            docs=_says_yes(flags.enable_docs_url),
            batching=_batching(flags),
            payload_log=PayloadLogSettings.parse(argv, env),
            queue=QueueSettings.from_environment(env),
        )


def _parser(env: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--http_port", type=int, default=int(number(env, "PORT", HTTP_PORT)), help="port for HTTP")
    parser.add_argument("--grpc_port", type=int, default=GRPC_PORT, help="port for gRPC")
    parser.add_argument("--enable_grpc", default="true", help="whether to serve gRPC at all")
    for name in ("--grpc_max_send_message_length", "--grpc_max_receive_message_length"):
        parser.add_argument(name, type=int, default=GRPC_MESSAGE_BYTES_MAX, help="bytes of a gRPC message")
    # KServe writes its access log where a format is given; the format here is JSON, whatever is given.
    parser.add_argument("--access_log", nargs="?", const="true", default=env.get("LADLE_ACCESS_LOG", ""))
    parser.add_argument("--access_log_format", default=None, help="KServe's; turns the access log on")
    parser.add_argument("--enable_docs_url", nargs="?", const="true", default=env.get("LADLE_ENABLE_DOCS_URL", ""))
    parser.add_argument("--workers", type=int, default=1, help="processes that share the ports")
    parser.add_argument("--nthread", type=int, default=1, help="threads of the model's library")
    # The flags of KServe's agent, which does the batching there.
    parser.add_argument("--enable_batcher", action="store_true", default=flag(env, "LADLE_BATCH", default=False))
    parser.add_argument("--max_batchsize", type=int, default=int(number(env, "LADLE_BATCH_MAX_SIZE", 0)), help="rows")
    parser.add_argument("--max_latency", type=int, default=int(number(env, "LADLE_BATCH_MAX_LATENCY_MS", 0)), help="ms")
    parser.add_argument("--model_name", default="model", help="name under which the model is served")
    parser.add_argument("--model_dir", default=MODEL_DIRECTORY, help="directory of the model's files")
    parser.add_argument("--max_threads", type=int, default=min(4, os.cpu_count() or 1), help="predictions at once")
    return parser


def _says_yes(value: str) -> bool:
    return flag({"": value}, "", default=False)


def _batching(flags: argparse.Namespace) -> BatchSettings | None:
    """KServe's batcher settings; None where batching is off."""
    if not flags.enable_batcher:
        return None
    return BatchSettings.of_kserve(max_size=flags.max_batchsize, max_latency_ms=flags.max_latency)


def _grpc_port(flags: argparse.Namespace, env: Mapping[str, str]) -> int | None:
    """Where the node chooses the ports, gRPC is served on the one that it chose, if it did; else on the flag's."""
    if flags.enable_grpc.lower() == "false":
        return None
    if "LADLE_HTTP_PORT" in env or "LADLE_GRPC_PORT" in env:
        return int(number(env, "LADLE_GRPC_PORT", 0)) or None
    return flags.grpc_port or None


def with_underscores(argv: Sequence[str]) -> list[str]:
    """Flags in one spelling: KServe writes most with underscores and some with dashes, and both are understood."""
    words = []
    for word in argv:
        name, equals, value = word.partition("=")
        words.append(name.replace("-", "_").replace("__", "--", 1) + equals + value if name.startswith("--") else word)
    return words
