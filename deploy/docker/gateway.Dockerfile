# syntax=docker/dockerfile:1.19
# The gateway, the client and the demo's engines. No torch, no compiler, no root.

FROM python:3.11.14-slim-bookworm AS packages
COPY pyproject.toml constraints.txt README.md LICENSE /source/
COPY protos /source/protos
COPY engines /source/engines
COPY model /source/model
COPY training /source/training
COPY export /source/export
COPY service /source/service
COPY client /source/client
RUN python -m venv /opt/mirrorme \
  && /opt/mirrorme/bin/pip install --no-cache-dir --constraint /source/constraints.txt \
    '/source[client,service,triton]'

# Exports the demo; nothing of this stage but the engines is kept.
FROM python:3.11.14-slim-bookworm AS models
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY . /source
WORKDIR /source
RUN python -m venv /opt/mirrorme \
  && /opt/mirrorme/bin/pip install --no-cache-dir --constraint constraints.txt \
    --extra-index-url "${TORCH_INDEX}" '.[export]' \
  && /opt/mirrorme/bin/mirrorme-export onnx demo --output /models

FROM python:3.11.14-slim-bookworm
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin mirrorme
COPY --from=packages /opt/mirrorme /opt/mirrorme
COPY --from=models /models /models
COPY examples/portrait_1.png examples/speech.wav /examples/
ENV PATH=/opt/mirrorme/bin:$PATH \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MIRRORME_ENGINES=/models/demo \
    MIRRORME_HOST=0.0.0.0
USER 10001:10001
EXPOSE 50051 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9464/metrics', timeout=4)"]
ENTRYPOINT ["python", "-m", "mirrorme_service"]
