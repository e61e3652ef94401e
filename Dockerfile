# One image for GPUs (the default) and, with TORCH_VARIANT=cpu, a small one for CPUs.
# docker/README.md lists the layers with their sizes and reasons.

ARG BASE_IMAGE=python:3.11-slim-bookworm
ARG TORCH_VARIANT=cuda
# More of pyproject.toml's extras, such as "hub cloud" for weights of hubs and buckets.
ARG EXTRAS=


# The CPU kernels, compiled for each supported instruction set.
FROM ${BASE_IMAGE} AS kernels
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && apt-get clean && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY model/kernels/ model/kernels/
RUN python3 -c "from model.kernels.cpu.library import prebuild; prebuild()"


# pip, which is not kept in the image, and the list of packages to install.
FROM ${BASE_IMAGE} AS installer
ARG EXTRAS
RUN python3 -m venv /opt/installer
WORKDIR /requirements
COPY pyproject.toml requirements.lock ./
RUN grep '^torch==' requirements.lock > torch.txt \
    && python3 -c "import sys, tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    extras = p['optional-dependencies']; \
    print(*p['dependencies'], *(each for name in sys.argv[1:] for each in extras[name]), sep='\n')" \
    otel ${EXTRAS} > packages.txt


# The application, in the layout of the image.
FROM installer AS application
RUN python3 -m venv --without-pip /opt/overlock
WORKDIR /source
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY model/ model/
COPY service/ service/
COPY --from=kernels /source/model/kernels/cpu/native/prebuilt/ model/kernels/cpu/native/prebuilt/
ARG REVISION=
RUN echo "${REVISION}" > service/commit.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/installer/bin/pip --python /opt/overlock/bin/python install --no-deps --root /application .


FROM ${BASE_IMAGE} AS system-cpu
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 tini \
    && apt-get clean && rm -rf /var/lib/apt/lists/*

# Triton needs a C compiler for the launcher of every GPU kernel.
FROM ${BASE_IMAGE} AS system-cuda
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev tini \
    && apt-get clean && rm -rf /var/lib/apt/lists/*
# For NVIDIA's container toolkit. The devices are chosen when the container is started.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility


FROM system-${TORCH_VARIANT} AS service
ARG TORCH_VARIANT
# PyPI's torch for Linux is the CUDA build; the one for CPUs is on PyTorch's own index. Empty if
# pip is configured with another index.
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
# Numeric ids, so that an orchestrator can see that it is not root. The cache is its home.
RUN groupadd --gid 10001 overlock \
    && useradd --uid 10001 --gid 10001 --home-dir /var/cache/overlock --shell /usr/sbin/nologin overlock \
    && install --directory --owner=10001 --group=10001 --mode=0700 /var/cache/overlock
RUN python3 -m venv --without-pip /opt/overlock
# The largest layers, which change least, come first.
RUN --mount=type=bind,from=installer,source=/opt/installer,target=/opt/installer \
    --mount=type=bind,from=installer,source=/requirements,target=/requirements \
    --mount=type=cache,target=/root/.cache/pip \
    if [ "${TORCH_VARIANT}" = cpu ]; then index=${TORCH_CPU_INDEX}; fi; \
    /opt/installer/bin/pip --python /opt/overlock/bin/python install \
        ${index:+--extra-index-url "${index}"} \
        --constraint /requirements/requirements.lock --requirement /requirements/torch.txt \
    && cd /opt/overlock/lib/python3*/site-packages/torch \
    # PyTorch's own tests, and headers for extensions where there is no compiler.
    && rm -rf test bin/test_* bin/*StoreTest bin/protoc* \
    && if [ "${TORCH_VARIANT}" = cpu ]; then rm -rf include; fi
# Named in the command, since buildah's cache does not look into the mounts.
ARG EXTRAS
RUN --mount=type=bind,from=installer,source=/opt/installer,target=/opt/installer \
    --mount=type=bind,from=installer,source=/requirements,target=/requirements \
    --mount=type=cache,target=/root/.cache/pip \
    : "${EXTRAS}"; \
    /opt/installer/bin/pip --python /opt/overlock/bin/python install \
        --constraint /requirements/requirements.lock --requirement /requirements/packages.txt
COPY --from=application /application/opt/overlock/ /opt/overlock/
COPY docker/healthcheck.py /opt/overlock/healthcheck.py

ENV PATH=/opt/overlock/bin:${PATH} \
    OVERLOCK_HOST=0.0.0.0 \
    OVERLOCK_CACHE_DIR=/var/cache/overlock
USER 10001:10001
EXPOSE 8000
# Liveness, not readiness: orchestrators kill a container that fails this, and a service whose engine is
# being restarted, or that drains, needs time and not another restart.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-I", "/opt/overlock/healthcheck.py", "/livez"]
# tini forwards signals and reaps processes whose parent, an engine, died before them.
ENTRYPOINT ["tini", "--", "overlock"]
CMD ["serve"]

ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="overlock-service" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.description="An HTTP inference service for OverLoCK" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
