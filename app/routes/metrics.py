"""/metrics: what this process has done, for Prometheus."""

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from app.dependencies import MetricsDep

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=PlainTextResponse)
async def read_metrics(request: Request, metrics: MetricsDep) -> Response:
    """Requests, latencies, batches, confidences, the model and the runs, in Prometheus' text format.

    Each API process tells of itself, so every replica is scraped; the runs are everybody's.
    """
    content, media_type = await metrics.scrape(request.headers.get("accept", ""))
    return Response(content, media_type=media_type)
