# The inference worker; with the command `coopserve trainer`, the training worker. Build it at the root of the repository:
#   docker build --file docker/worker.Dockerfile --tag coopserve-worker .

FROM python:3.11-slim-bookworm AS build
# evaluate: the features by which the trainer judges its models; devices: trainings on several GPUs.
ARG EXTRAS=worker,evaluate,devices,s3
# Package indexes for pip, if not the default. They decide which build of torch the image has: on PyPI it is the build
# for CUDA, with all CUDA libraries except the driver, which the host provides.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
WORKDIR /src
RUN python3 -m venv --without-pip /opt/venv
# The dependencies without the project: this layer is rebuilt only when these two files change.
COPY pyproject.toml constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    touch README.md \
    && python3 -m pip --python /opt/venv/bin/python install --constraint constraints.txt ".[${EXTRAS}]" \
    && python3 -m pip --python /opt/venv/bin/python uninstall --yes coopserve
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip --python /opt/venv/bin/python install --no-deps --target /app .

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="coopserve worker" \
      org.opencontainers.image.description="Inference and training workers of coopserve, which serves cooperative, energy-based image models" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 coopserve \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin coopserve \
    && install --directory --owner=10001 --group=10001 /data
COPY --from=build /opt/venv /opt/venv
COPY checkpoints /app/checkpoints
COPY --from=build /app /app
ENV PATH=/app/bin:/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTORCH_KERNEL_CACHE_PATH=/tmp/torch-kernels \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    COOPSERVE_DATA_DIR=/data \
    COOPSERVE_CHECKPOINTS_DIR=/app/checkpoints
WORKDIR /data
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=20s --start-period=300s --retries=3 CMD ["coopserve", "healthcheck", "worker"]
CMD ["coopserve", "worker"]
