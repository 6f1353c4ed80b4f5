"""The API of each system: its routes, and its error bodies."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import BaseRoute

from simulator.systems.base import System
from simulator.systems.iimmpact import api as iimmpact_api
from simulator.systems.iimmpact import webhook as iimmpact_webhook
from simulator.systems.iimmpact.system import Iimmpact
from simulator.systems.indexed import admin as indexed_admin
from simulator.systems.indexed.system import Indexed
from simulator.systems.sigma import api as sigma_api
from simulator.systems.sigma import webhooks as sigma_webhooks
from simulator.systems.sigma.system import Sigma
from simulator.systems.sticky import api as sticky_api
from simulator.systems.sticky import webhook as sticky_webhook
from simulator.systems.sticky.system import Sticky


def routes(system: System) -> list[BaseRoute]:
    """Return the routes of the system's API, with the routes that register webhooks."""
    match system:
        case Sigma():
            return [*sigma_webhooks.routes(system), *sigma_api.routes(system)]
        case Indexed():
            return indexed_admin.routes(system)
        case Iimmpact():
            signed = iimmpact_api.Api(system)
            return [*iimmpact_webhook.routes(system, signed), *iimmpact_api.routes(signed)]
        case Sticky():
            basic = sticky_api.Api(system)
            return [*sticky_webhook.routes(system, basic), *sticky_api.routes(basic)]
    raise TypeError(f"{type(system).__name__} has no API: add its routes here.")


def refusal(system: System, status: int, message: str) -> Response:
    """Answer a request that matches no route with the error body of the system's API."""
    match system:
        case Sigma():
            return sigma_api.failure("NOT_FOUND" if status == 404 else "VALIDATION_ERROR", message, status=status)
        case Indexed():
            return indexed_admin.failure(status, message)
        case Iimmpact():
            return iimmpact_api.failure(status, "NOT_FOUND" if status == 404 else "METHOD_NOT_ALLOWED", message)
        case Sticky():
            return sticky_api.failure(status, message)
    raise TypeError(f"{type(system).__name__} has no API: add its refusals here.")
