# srflow-upscale in a container. CPU: docker build -t srflow .
# CUDA: docker build --target cuda -t srflow:cuda .
# Nobody has built it yet: docs/install.md says how it was checked.

# python:3.12-slim (3.12.13) as docker-library/repo-info recorded it in August 2026. RELEASE.md says how to renew it.
ARG BASE=python:3.12-slim@sha256:229a2c5bfa27522db7815ea81f9bed70af17ccb9de9fc7ad142b1877b5830d36

# What comes from elsewhere is held to the hashes in docker/*.txt, which `make locks` writes.
FROM ${BASE} AS wheels
WORKDIR /source
COPY docker docker
RUN pip install --no-cache-dir --require-hashes -r docker/build.txt
COPY pyproject.toml MANIFEST.in LICENSE NOTICE PYPI.md ./
COPY srflow_sdk srflow_sdk
COPY apps apps
COPY training training
COPY export export
RUN pip wheel --no-cache-dir --no-index --no-deps --no-build-isolation --wheel-dir /wheels .

FROM wheels AS cuda-wheels
RUN pip wheel --no-cache-dir --no-build-isolation --require-hashes --wheel-dir /wheels -r docker/cuda.txt

FROM wheels AS cpu-wheels
RUN pip wheel --no-cache-dir --no-build-isolation --require-hashes --wheel-dir /wheels -r docker/cpu.txt

FROM ${BASE} AS cuda
RUN --mount=type=bind,from=cuda-wheels,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --no-deps /wheels/*.whl \
    && useradd --create-home --uid 10001 srflow
ENV ORT_DISABLE_TELEMETRY=1 NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001
WORKDIR /pictures
ENTRYPOINT ["srflow-upscale"]
CMD ["--help"]

FROM ${BASE} AS cpu
RUN --mount=type=bind,from=cpu-wheels,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --no-deps /wheels/*.whl \
    && useradd --create-home --uid 10001 srflow
ENV ORT_DISABLE_TELEMETRY=1
USER 10001
WORKDIR /pictures
ENTRYPOINT ["srflow-upscale"]
CMD ["--help"]
