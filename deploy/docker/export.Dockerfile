# syntax=docker/dockerfile:1.19
# torch to ONNX, on a CPU.

FROM python:3.11.14-slim-bookworm AS packages
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
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
    --extra-index-url "${TORCH_INDEX}" '/source[export]'

FROM python:3.11.14-slim-bookworm
RUN useradd --uid 1000 --no-create-home --shell /usr/sbin/nologin mirrorme
COPY --from=packages /opt/mirrorme /opt/mirrorme
# Looked for below the working folder: bundled weights, and what 8 bits are calibrated with.
COPY weight[s] /work/weights
COPY examples /work/examples
WORKDIR /work
ENV PATH=/opt/mirrorme/bin:$PATH \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 1000:1000
# Runs to its end, so there is nothing to ask for its health.
HEALTHCHECK NONE
ENTRYPOINT ["mirrorme-export"]
CMD ["--help"]
