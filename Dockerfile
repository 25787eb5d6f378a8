# srflow-upscale in a container. CPU: docker build -t srflow .
# CUDA: docker build --target cuda -t srflow:cuda .
# Nobody has built it yet: docs/install.md says how it was checked.

ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
COPY pyproject.toml MANIFEST.in LICENSE NOTICE PYPI.md ./
COPY srflow_sdk srflow_sdk
COPY training training
COPY export export
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim AS cuda
COPY --from=wheel /wheels /wheels
# The CPU package of ONNX Runtime gives way to the GPU one, which brings CUDA and cuDNN: docs/install.md says why.
RUN pip install --no-cache-dir /wheels/*.whl \
    && pip uninstall -y onnxruntime \
    && pip install --no-cache-dir "onnxruntime-gpu[cuda,cudnn]>=1.20" \
    && useradd --create-home --uid 10001 srflow
ENV ORT_DISABLE_TELEMETRY=1 NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001
WORKDIR /pictures
ENTRYPOINT ["srflow-upscale"]
CMD ["--help"]

FROM python:${PYTHON}-slim AS cpu
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir /wheels/*.whl && useradd --create-home --uid 10001 srflow
ENV ORT_DISABLE_TELEMETRY=1
USER 10001
WORKDIR /pictures
ENTRYPOINT ["srflow-upscale"]
CMD ["--help"]
