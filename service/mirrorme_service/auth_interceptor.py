"""The check before every RPC: a caller without a valid token is refused before its request is read.

Health is open to all: probes and load balancers hold no tokens.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import grpc.aio
from grpc_health.v1 import health
from mirrorme.animate.v1 import animation_pb2

from mirrorme_service.authentication import Authenticator
from mirrorme_service.caller import set_caller
from mirrorme_service.error_border import error_border
from mirrorme_service.errors import Unauthenticated
from mirrorme_service.metrics import Metrics

log = logging.getLogger(__name__)

_SERVICE = animation_pb2.DESCRIPTOR.services_by_name["AnimationService"]
_RPCS = {f"/{_SERVICE.full_name}/{method.name}": method.name for method in _SERVICE.methods}
_OPEN = f"/{health.SERVICE_NAME}/"


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Runs in each call's own task, so that the caller it finds is that task's."""

    def __init__(self, authenticator: Authenticator, metrics: Metrics) -> None:
        self._authenticator = authenticator
        self._metrics = metrics

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """The method's own handler, or one that refuses."""
        method = handler_call_details.method
        if not method.startswith(_OPEN):
            try:
                metadata = handler_call_details.invocation_metadata
                set_caller(self._authenticator.authenticate(metadata))
            except Unauthenticated as error:
                return self._refusal(method, error)
        return await continuation(handler_call_details)

    def _refusal(self, method: str, error: Unauthenticated) -> grpc.RpcMethodHandler:
        # Clients may name any method: the metric's label holds those that there are.
        rpc = _RPCS.get(method, "other")

        async def refuse(_: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> None:
            async with error_border(context, rpc, self._metrics):
                raise error

        # As a stream, whatever the method is: a stream is answered before its request is read.
        return grpc.stream_stream_rpc_method_handler(refuse)
