"""The example of a service's health, where FastAPI is installed."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

import pymq

pytest.importorskip("fastapi")
pytest.importorskip("httpx2")

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "health" / "service.py"


def test_a_supervisor_learns_how_the_bus_is(monkeypatch, redis_url):
    from fastapi.testclient import TestClient

    monkeypatch.setenv("PYMQ_URL", redis_url)
    app = runpy.run_path(str(EXAMPLE))["app"]
    with TestClient(app) as client, pymq.connect(redis_url) as bus:
        assert client.get("/live").status_code == 200
        ready = client.get("/ready")
        assert (ready.status_code, ready.json()["state"]) == (200, "connected")
        bus.queue("jobs").put(1)
        text = client.get("/metrics").text
        assert 'pymq_queue_items{queue="jobs",state="waiting"} 1.0' in text
        assert "pymq_connected 1.0" in text
        app.state.bus.bus.close()
        away = client.get("/ready")
        assert (away.status_code, away.json()["state"]) == (503, "closed")
