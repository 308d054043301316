# Two images from one file:
#   docker build --target emulator .   the channel emulator, without torch
#   docker build --target vision .     the server and the device
# --build-arg TORCH_INDEX_URL=... takes torch from another package index (a CPU build), which makes the second
# one much smaller; see docs/containers.md.

FROM python:3.11-slim AS builder
ENV PATH=/opt/semlink/bin:$PATH PIP_CACHE_DIR=/var/cache/pip PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/semlink
WORKDIR /src
# Dependencies are a layer of their own, made before the source is copied: a changed line of code installs none anew.
COPY pyproject.toml deploy/requirements.py ./

FROM builder AS build-emulator
RUN python requirements.py access tracing >requirements.txt
RUN --mount=type=cache,target=/var/cache/pip pip install -r requirements.txt
COPY . .
RUN --mount=type=cache,target=/var/cache/pip pip install --no-deps '.[access,tracing]'

FROM builder AS build-vision
ARG TORCH_INDEX_URL=
RUN --mount=type=cache,target=/var/cache/pip if [ -n "$TORCH_INDEX_URL" ]; then \
        pip install --index-url "$TORCH_INDEX_URL" torch torchvision; \
    fi
RUN python requirements.py vision redis tracing >requirements.txt
RUN --mount=type=cache,target=/var/cache/pip pip install -r requirements.txt
COPY . .
RUN --mount=type=cache,target=/var/cache/pip pip install --no-deps '.[vision,redis,tracing]'

FROM python:3.11-slim AS runtime
ENV PATH=/opt/semlink/bin:$PATH PYTHONUNBUFFERED=1
# What timm's hub downloads is in /cache, and the run's id in /run/semlink: volumes in docker-compose.yml.
ENV HF_HOME=/cache
RUN useradd --uid 10001 --no-create-home --home-dir /cache semlink \
    && install --directory --owner=semlink /cache /run/semlink
USER 10001
WORKDIR /cache

FROM runtime AS emulator
COPY --from=build-emulator /opt/semlink /opt/semlink
EXPOSE 50052 8001
CMD ["semlink-channel"]

FROM runtime AS vision
COPY --from=build-vision /opt/semlink /opt/semlink
EXPOSE 50051 8000
CMD ["semlink-server"]
