# deeploc-bench for GPUs, or by --build-arg DEVICE=cpu for machines without one: docs/docker.md
ARG DEVICE=cuda
FROM nvidia/cuda:12.8.1-base-ubuntu24.04 AS cuda
FROM ubuntu:24.04 AS cpu

# hadolint ignore=DL3006
FROM ${DEVICE}
ARG DEVICE
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH

# the packages of PyPI bring CUDA along, gigabytes that a CPU has no use for
RUN if [ "$DEVICE" = cpu ]; then \
        pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu "torch>=2.7" "torchvision>=0.22"; \
    fi
COPY pyproject.toml README.md LICENSE /opt/deeploc-bench/
COPY deeploc_bench /opt/deeploc-bench/deeploc_bench
COPY plugins /opt/deeploc-bench/plugins
COPY leaderboard/published /opt/deeploc-bench/leaderboard/published
RUN pip install --no-cache-dir /opt/deeploc-bench && rm -r /opt/deeploc-bench

# whoever runs it, also another user by --user, may write there
RUN useradd --create-home --uid 1001 bench && mkdir -p /cache /work/runs && chmod 1777 /cache /work /work/runs
ENV XDG_CACHE_HOME=/cache HF_HOME=/cache/huggingface MPLCONFIGDIR=/cache/matplotlib
VOLUME ["/cache", "/work/runs"]
USER 1001
WORKDIR /work
ENTRYPOINT ["deeploc-bench"]
CMD ["--help"]
