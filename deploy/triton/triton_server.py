#!/usr/bin/env python3
"""Installs a real Triton server for machines without a GPU, and starts and stops it.

The server comes from the `nvidia-pytriton` wheel (Triton 2.51 with the Python backend) in a virtual
environment of its own under `.triton/`. Production runs NVIDIA's container instead: this script is
for development, tests and CI. It needs nothing but the standard library.

    triton_server.py install
    triton_server.py run   --models engines/repository/demo --grpc-port 8001
    triton_server.py start --models engines/repository/demo --grpc-port 8001
    triton_server.py stop  --grpc-port 8001
    triton_server.py with  --models engines/repository/demo -- mirrorme serve

`with` runs a command beside servers of its own, on free ports that the command finds in
MIRRORME_TRITON_ENDPOINTS, and stops them when the command ends, however it ends.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from accompaniment import Accompaniment
from installation import Installation, ServerError, say
from server_process import ServerOptions, run, start, stop

DEFAULT_HOME = Path(__file__).resolve().parents[2] / ".triton"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A Triton server for machines without a GPU.")
    parser.add_argument("--home", type=Path, default=DEFAULT_HOME, help="where it is installed")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("install", help="install the server, if it is not there yet")
    for name, text in (("run", "run a server"), ("start", "start one in the background")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--models", type=Path, required=True, help="an exported preset")
        command.add_argument("--grpc-port", type=int, default=8001)
        command.add_argument("--http-port", type=int, help="default: the gRPC port + 1000")
        command.add_argument("--metrics-port", type=int, help="default: the gRPC port + 2000")
        command.add_argument("--host", default="127.0.0.1")
        command.add_argument("--cpu", type=int, help="the one core that the server may use")
        command.add_argument("--log", type=Path, help="a file for the server's log")
        command.add_argument("--timeout-s", type=float, default=120, help="to wait for readiness")
        command.set_defaults(with_parent=False)
        if name == "run":
            command.add_argument(
                "--with-parent", action="store_true", help="end when the caller has ended"
            )
    command = commands.add_parser("with", help="run a command beside servers of its own")
    command.add_argument("--models", type=Path, required=True, help="an exported preset")
    command.add_argument("--servers", type=int, default=1, help="how many servers")
    command.add_argument("--timeout-s", type=float, default=120, help="to wait for readiness")
    command.add_argument("command_line", nargs="+", metavar="COMMAND", help="after --")
    command = commands.add_parser("stop", help="stop a server that `start` began")
    command.add_argument("--grpc-port", type=int, default=8001)
    command.add_argument("--timeout-s", type=float, default=20, help="before it is killed")
    return parser


def main() -> int:
    """The command line."""
    arguments = _parser().parse_args()
    installation = Installation(arguments.home.resolve())
    try:
        match arguments.command:
            case "install":
                installation.install()
            case "stop":
                if not stop(installation, arguments.grpc_port, arguments.timeout_s):
                    say(f"port {arguments.grpc_port}: no server was started from here")
            case "run":
                run(installation, _options(arguments))
            case "start":
                pid = start(installation, _options(arguments), arguments.timeout_s)
                say(f"Triton serves gRPC on {arguments.host}:{arguments.grpc_port}, process {pid}")
            case "with":
                beside = Accompaniment(arguments.models, arguments.servers, arguments.timeout_s)
                return beside.run(installation, arguments.command_line)
    except ServerError as error:
        say(str(error))
        return 1
    return 0


def _options(arguments: argparse.Namespace) -> ServerOptions:
    return ServerOptions(
        models=arguments.models,
        grpc_port=arguments.grpc_port,
        http_port=arguments.http_port or arguments.grpc_port + 1000,
        metrics_port=arguments.metrics_port or arguments.grpc_port + 2000,
        host=arguments.host,
        cpu=arguments.cpu,
        log=arguments.log,
        with_parent=arguments.with_parent,
    )


if __name__ == "__main__":
    sys.exit(main())
