"""Traces and metrics go to an OpenTelemetry collector where the environment names one, and nothing is loaded else."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.processes import ROOT, serving, wait_for

EXPORTS_AT_ONCE = {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_METRIC_EXPORT_INTERVAL": "200"}


class Collector(ThreadingHTTPServer):
    """What an OpenTelemetry collector hears, over OTLP in HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.paths: set[str] = set()
        self.spans: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.server.spans += [span.name for scope in resource.scope_spans for span in scope.spans]
        self.server.paths.add(self.path)
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        yield collector
        collector.shutdown()
        thread.join()


def test_a_service_sends_spans_and_metrics_to_the_collector_it_is_told(collector: Collector, tmp_path: Path) -> None:
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **EXPORTS_AT_ONCE}
    with serving(tmp_path, "api", **settings) as service:
        assert service.http.get("/train/nothing").status_code == 404
        assert service.http.post("/predict", json={}).status_code == 422
        wait_for(lambda: {"GET /train/{run}", "POST /predict"} <= {*collector.spans})
        wait_for(lambda: "/v1/metrics" in collector.paths)


def test_a_collector_that_is_away_does_not_hold_up_the_end(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path, "api", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") as service:
        assert service.http.get("/healthz").status_code == 200
    said = capfd.readouterr().err
    assert "Application shutdown complete" in said
    assert "killed" not in said


def test_without_a_collector_no_exporter_is_loaded(tmp_path: Path) -> None:
    program = """if True:
        import sys
        from starlette.testclient import TestClient
        from app.main import create_app
        from app.settings import Settings
        from opentelemetry import trace

        with TestClient(create_app(Settings())) as client:
            assert client.get("/healthz").status_code == 200
        assert type(trace.get_tracer_provider()).__name__ == "ProxyTracerProvider"
        loaded = [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))]
        assert not loaded, loaded
    """
    environment = {"INKLING_DATA_DIR": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True)
