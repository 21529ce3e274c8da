"""Health for whoever supervises a service, with FastAPI: `uvicorn service:app`.

`/live` says that the process answers, `/ready` that its bus can be reached, `/metrics` what
Prometheus scrapes. The address of the bus is PYMQ_URL.
"""

import contextlib

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from pymq import aio
from pymq.prometheus import Collector


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI):
    async with aio.connect(wait=30) as bus:
        collector, app.state.registry = Collector(bus), CollectorRegistry()
        app.state.registry.register(collector)
        app.state.bus = bus
        yield
        collector.close()


app = FastAPI(lifespan=lifespan)


@app.get("/live")
async def live():
    return {}


@app.get("/ready")
async def ready(request: Request, response: Response):
    # It asks nobody, so a supervisor may look as often as it likes.
    health = request.app.state.bus.health()
    if health["state"] != "connected":
        response.status_code = 503
    return health


@app.get("/metrics")
def metrics(request: Request):
    # No coroutine: it asks the broker how the queues stand, on a thread of the framework's.
    text = generate_latest(request.app.state.registry)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
