# The server with its default checkpoint inside: on the CPU, or on an NVIDIA GPU.
#
#   docker build -t causalrn .
#   docker run --rm -p 8000:8000 -v causalrn:/var/lib/causalrn causalrn
#
#   docker build -t causalrn:cuda --target cuda .
#   docker run --rm --gpus all -p 8000:8000 -v causalrn:/var/lib/causalrn causalrn:cuda
#
# Settings are environment variables (CAUSALRN_..., UVICORN_...). Sessions are kept in the volume.
# Runs with --read-only, and as any user of the group 0.

FROM python:3.11-slim AS venv
WORKDIR /app
ENV PATH=/opt/venv/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv

FROM venv AS builder
# torch keeps builds without CUDA, which is several GB, in an index of its own. Where another index
# serves them, name that: --build-arg TORCH_INDEX_URL=...
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN pip install --no-deps --index-url "$TORCH_INDEX_URL" torch==2.13.0
# Installed as a link to /app, so that a change of the sources reuses this layer.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN pip install -c constraints.txt -e .

FROM venv AS cuda-builder
# The build with CUDA brings CUDA's libraries; the driver is the host's.
ARG TORCH_CUDA_INDEX_URL=https://download.pytorch.org/whl/cu128
RUN pip install --index-url "$TORCH_CUDA_INDEX_URL" torch==2.13.0
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN pip install -c constraints.txt -e '.[gpu]'

FROM python:3.11-slim AS base
WORKDIR /app
# Draining ends before `docker stop` loses patience, after 10 seconds.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NUMBA_CACHE_DIR=/var/cache/numba \
    CAUSALRN_DRAIN_SECONDS=8 \
    CAUSALRN_SESSION_STORE=/var/lib/causalrn/sessions.db \
    UVICORN_HOST=0.0.0.0 \
    UVICORN_PORT=8000 \
    UVICORN_WS=none \
    UVICORN_SERVER_HEADER=false
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin causalrn \
    && install --directory --owner=causalrn --group=0 --mode=2775 /var/cache/numba /var/lib/causalrn
COPY LICENSE ./
COPY causalrn causalrn
COPY model model
COPY server server
COPY checkpoints/exact-bytes checkpoints/exact-bytes
# Image layers keep times in whole seconds, and Numba compiles again when the time of a source has
# changed, if only by a fraction.
RUN find model -name '*.py' -exec touch --date="@$(date +%s)" {} + \
    && python -m compileall -q causalrn model server \
    && chmod -R a+rX .
VOLUME /var/lib/causalrn
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s CMD ["python", "-c", "import http.client, os, sys; h = os.environ['UVICORN_HOST']; c = http.client.HTTPConnection('localhost' if h in ('0.0.0.0', '::') else h, int(os.environ['UVICORN_PORT']), timeout=2); c.request('GET', '/health/ready'); sys.exit(c.getresponse().status != 200)"]
CMD ["uvicorn", "server.app:app"]

FROM base AS cuda
# Triton compiles a small program with the kernels that it launches.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
ENV CAUSALRN_DEVICE=cuda \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    TRITON_CACHE_DIR=/var/cache/triton
RUN install --directory --owner=causalrn --group=0 --mode=2775 /var/cache/triton
COPY --from=cuda-builder /opt/venv /opt/venv
USER causalrn

FROM base
COPY --from=builder /opt/venv /opt/venv
USER causalrn
# For the kind of CPU that builds; another kind compiles at every start.
RUN python -m causalrn.server.precompile
RUN test "$(causalrn generate 'A copy, byte by byte.')" = 'A copy, byte by byte.'
