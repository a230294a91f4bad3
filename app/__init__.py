"""The service: a durable queue, workers that train, and an API that predicts."""
