"""What a transformer is told about its predictor: KServe's flags and environment variables of ours.

KServe's controller appends --predictor_host to a transformer's arguments; the rest is the manifest's.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ladle.errors import UserError
from ladle.server.cluster_names import is_cluster_name
from ladle.server.options import with_underscores
from ladle.server.queue_settings import flag, number
from ladle.transformer.tls import find_authorities

TIMEOUT_S = 600.0
"""KServe's --predictor_request_timeout_seconds."""
RETRIES_MAX = 10
"""More would only add load to a predictor that is down. A guess."""
MESSAGE_BYTES_MAX = 8 * 1024 * 1024
"""Longest gRPC message either way; KServe's --grpc_max_send_message_length."""


class Protocol(StrEnum):
    """What --predictor_protocol may say."""

    V1 = "v1"
    V2 = "v2"
    GRPC = "grpc-v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictorSettings:
    """Where the predictor is and how it is asked."""

    host: str = ""
    """Name or address, perhaps with a port; "" for none (--predictor_host)."""
    protocol: Protocol = Protocol.V1
    """--predictor_protocol."""
    tls: bool = False
    """--predictor_use_ssl."""
    authorities: str = ""
    """With TLS, the file of the authorities that may vouch for the predictor (REQUESTS_CA_BUNDLE, else SSL_CERT_FILE); "" for
    those that the machine, or the library of gRPC, has."""
    timeout_s: float = TIMEOUT_S
    """Longest wait for an answer, retries included; the client's own deadline may be shorter."""
    retries: int = 0
    """Further attempts where the predictor was not reached at all, or answered 503 (--predictor_request_retries)."""
    binary: bool = False
    """Whether V2 tensors go in binary form, which Ladle's servers, Triton and MLServer take (--predictor_binary_data)."""
    gateway: str = ""
    """HOST:PORT through which cluster-local names lead; "" where they resolve (LADLE_GATEWAY, which a onebox sets)."""
    message_bytes_max: int = MESSAGE_BYTES_MAX

    def __post_init__(self) -> None:
        if self.timeout_s <= 0:
            raise UserError(f"--predictor_request_timeout_seconds = {self.timeout_s}, must be more than 0")
        if not 0 <= self.retries <= RETRIES_MAX:
            raise UserError(f"--predictor_request_retries = {self.retries}, must be in [0, {RETRIES_MAX}]")

    @classmethod
    def parse(cls, argv: Sequence[str], env: Mapping[str, str]) -> PredictorSettings:
        """Flags that are not known are others' affair; UserError where a value is none."""
        flags, _ = _parser(env).parse_known_args(with_underscores(argv))
        try:
            protocol = Protocol(flags.predictor_protocol)
        except ValueError:
            known = ", ".join(Protocol)
            raise UserError(f"--predictor_protocol = {flags.predictor_protocol}, must be one of {known}") from None
        tls = _truth("--predictor_use_ssl", flags.predictor_use_ssl)
        revision_s = number(env, "REVISION_TIMEOUT_SECONDS", 0)
        return cls(
            host=flags.predictor_host,
            protocol=protocol,
            tls=tls,
            authorities=find_authorities(env) if tls else "",
            # Beyond its own deadline nobody waits for this transformer's answer either.
            timeout_s=min(
                flags.predictor_request_timeout_seconds, revision_s or flags.predictor_request_timeout_seconds
            ),
            retries=flags.predictor_request_retries,
            binary=_truth("--predictor_binary_data", flags.predictor_binary_data),
            gateway=env.get("LADLE_GATEWAY", ""),
            message_bytes_max=max(flags.grpc_max_send_message_length, flags.grpc_max_receive_message_length),
        )

    @property
    def authority(self) -> str:
        """The Host header, or the :authority of gRPC."""
        return self.host

    @property
    def server_name(self) -> str:
        """The name that the certificate has to have."""
        return split_address(self.host, 443)[0]

    @property
    def address(self) -> tuple[str, int]:
        """Where to connect: the predictor, or the gateway that knows its name."""
        name, port = split_address(self.host, 443 if self.tls else 80)
        if self.gateway and is_cluster_name(name):
            return split_address(self.gateway, 80)
        return name, port


def split_address(text: str, default_port: int) -> tuple[str, int]:
    """Host and port of `host`, `host:port`, `[v6]` or `[v6]:port`; UserError where the port is no number."""
    host, separator, port = text.rpartition(":")
    if not separator or "]" in port or (text.count(":") > 1 and not text.startswith("[")):
        return text.strip("[]"), default_port
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(f"--predictor_host = {text}, its port must be a number in [1, 65535]")
    return host.strip("[]"), int(port)


def _parser(env: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--predictor_host", default="")
    parser.add_argument("--predictor_protocol", default=Protocol.V1)
    parser.add_argument("--predictor_use_ssl", default="false")
    parser.add_argument("--predictor_request_timeout_seconds", type=float, default=TIMEOUT_S)
    parser.add_argument("--predictor_request_retries", type=int, default=0)
    parser.add_argument(
        "--predictor_binary_data", default=str(flag(env, "LADLE_PREDICTOR_BINARY", default=False)).lower()
    )
    for name in ("--grpc_max_send_message_length", "--grpc_max_receive_message_length"):
        parser.add_argument(name, type=int, default=MESSAGE_BYTES_MAX)
    return parser


def _truth(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise UserError(f"{name} = {text}, must be true or false")
    return text.lower() == "true"
