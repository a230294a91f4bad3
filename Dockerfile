# DEVICE: cpu, cuda12 or cuda13, the name of a lock in locks/.
FROM python:3.11-slim

ARG DEVICE=cpu
WORKDIR /opt/inkling

# What changes seldom comes first: a new commit reuses the layer with the dependencies.
COPY locks/${DEVICE}.txt locks/
RUN python -m pip install --no-cache-dir --require-hashes -r locks/${DEVICE}.txt

COPY pyproject.toml README.md ./
COPY app app
COPY model model
COPY static static
RUN python -m pip install --no-cache-dir --no-deps --no-build-isolation -e . \
    && chmod -R a+rX . \
    && useradd --uid 10001 --create-home inkling \
    && install --directory --owner=inkling --group=inkling /data

USER inkling
ENV INKLING_HOST=0.0.0.0 \
    INKLING_PORT=8000 \
    INKLING_DATA_DIR=/data/inkling \
    INKLING_CACHE_DIR=/data/cache \
    PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 8000
# Docker may have told the container of a proxy, which knows nothing of this address.
HEALTHCHECK --interval=10s --timeout=10s --start-period=120s \
    CMD python -c "from urllib.request import ProxyHandler, build_opener; \
build_opener(ProxyHandler({})).open('http://127.0.0.1:${INKLING_PORT}/healthz', timeout=5)"
CMD ["inkling", "serve"]
