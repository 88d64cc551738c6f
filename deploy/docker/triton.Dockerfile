# syntax=docker/dockerfile:1.19
# NVIDIA's Triton, with what the model repository's Python backend imports.
# RELEASE is the builder's, too: both images then hold the same TensorRT.
ARG RELEASE=26.07

FROM nvcr.io/nvidia/tritonserver:${RELEASE}-py3
COPY constraints.txt /tmp/constraints.txt
# Memory of long-running servers grows less with tcmalloc; the image holds it.
ENV LD_PRELOAD=libtcmalloc.so.4 \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt onnxruntime numpy \
  && rm /tmp/constraints.txt
# Of the user that NVIDIA's image makes.
USER 1000:1000
EXPOSE 8000 8001 8002
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s --retries=3 \
  CMD ["curl", "--fail", "--silent", "http://127.0.0.1:8000/v2/health/ready"]
