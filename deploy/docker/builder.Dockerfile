# syntax=docker/dockerfile:1.19
# Builds TensorRT plans and model repositories on the GPU that will run them. No torch.
ARG RELEASE=26.07

FROM nvcr.io/nvidia/tensorrt:${RELEASE}-py3
COPY pyproject.toml constraints.txt README.md LICENSE /source/
COPY protos /source/protos
COPY engines /source/engines
COPY model /source/model
COPY training /source/training
COPY export /source/export
COPY service /source/service
COPY client /source/client
# TensorRT's Python module is the image's own. Of the extra `export` all but torch and what needs it.
RUN pip install --no-cache-dir --constraint /source/constraints.txt \
    click numpy onnx onnxruntime onnxscript pillow rich safetensors 'tritonclient[grpc]' cuda-bindings \
  && pip install --no-cache-dir --constraint /source/constraints.txt /source \
  && rm -r /source
COPY examples /examples
ENV ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 1000:1000
# Runs to its end, so there is nothing to ask for its health.
HEALTHCHECK NONE
ENTRYPOINT ["mirrorme-export"]
CMD ["--help"]
