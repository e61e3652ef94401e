# One image for GPUs (the default) and, with TORCH_VARIANT=cpu, a small one for CPUs.
# docker/README.md lists the layers with their sizes and reasons.

# `make pin-base` writes its digest here, after which the base is the same one everywhere. Untried: no
# registry could be reached where this was written, so it is still named by its tag alone.
ARG BASE_IMAGE=python:3.11-slim-trixie
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


# pip and what else makes the image and is not kept in it. It is copied into the stages that need it: a
# mounted stage is no part of a layer's key in buildah's cache, and may even be empty.
FROM ${BASE_IMAGE} AS installer
WORKDIR /requirements
COPY requirements/installer.lock ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /opt/installer \
    && /opt/installer/bin/pip install --no-deps --require-hashes --requirement installer.lock


FROM ${BASE_IMAGE} AS system-cpu
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 tini \
    && apt-get clean && rm -rf /var/lib/apt/lists/*

# Triton needs a C compiler and Python's headers for its launcher of GPU kernels. Python's own images
# have the headers; where they are missing, Python is Debian's.
FROM ${BASE_IMAGE} AS system-cuda
RUN headers=$(python3 -c "import pathlib, sysconfig; \
    print(pathlib.Path(sysconfig.get_path('include', 'posix_prefix'), 'Python.h').exists())") \
    && if [ "${headers}" = False ]; then python=libpython3-dev; fi \
    && apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev tini ${python} \
    && apt-get clean && rm -rf /var/lib/apt/lists/*
# For NVIDIA's container toolkit, which starts nothing on an older driver. The devices are chosen when
# the container is started.
ARG CUDA=13.0
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    NVIDIA_REQUIRE_CUDA="cuda>=${CUDA}"


# torch and what its build for GPUs needs.
FROM system-${TORCH_VARIANT} AS torch
COPY --from=installer /opt/installer/ /opt/installer/
RUN python3 -m venv --without-pip /opt/overlock
WORKDIR /requirements
COPY requirements/install_torch.sh requirements/torch.txt requirements/cuda.lock docker/trim.sh ./
ARG TORCH_VARIANT
# Another index with builds of torch, beside the one that pip is configured with, such as PyTorch's own
# for CUDA 12. By default PyTorch's of builds for CPUs where the image is for CPUs.
ARG TORCH_INDEX=auto
RUN --mount=type=cache,target=/root/.cache/pip \
    case ${TORCH_VARIANT}:${TORCH_INDEX} in \
        cpu:auto) export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu ;; \
        *:http*) export PIP_EXTRA_INDEX_URL=${TORCH_INDEX} ;; \
    esac; \
    ./install_torch.sh /opt/installer/bin/pip --python /opt/overlock/bin/python \
    && ./trim.sh /opt/overlock


# The other packages, in the layout of the image: first those that every image has, then the extras'.
FROM installer AS packages
RUN python3 -m venv --without-pip /opt/overlock
COPY requirements/runtime.lock docker/trim.sh ./
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/installer/bin/pip --python /opt/overlock/bin/python install --root /packages \
        --no-deps --require-hashes --requirement runtime.lock \
    && ./trim.sh /packages/opt/overlock

FROM packages AS extras
ARG EXTRAS
COPY pyproject.toml requirements/extras.lock ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -c "import sys, tomllib; \
    extras = tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']; \
    print(*(package for name in sys.argv[1:] for package in extras[name]), sep='\n')" \
    ${EXTRAS} > extras.txt \
    && cp --recursive /packages/opt/overlock/. /opt/overlock \
    && mkdir --parents /extras/opt/overlock \
    && if [ -n "${EXTRAS}" ]; then \
        /opt/installer/bin/pip --python /opt/overlock/bin/python install --root /extras \
            --require-hashes --constraint extras.lock --requirement extras.txt \
        && ./trim.sh /extras/opt/overlock; \
    fi


# The application.
FROM installer AS application
RUN python3 -m venv --without-pip /opt/overlock
WORKDIR /source
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY model/ model/
COPY service/ service/
COPY --from=kernels /source/model/kernels/cpu/native/prebuilt/ model/kernels/cpu/native/prebuilt/
ARG REVISION=
RUN echo "${REVISION}" > service/commit.txt \
    && /opt/installer/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheel . \
    && /opt/installer/bin/pip --python /opt/overlock/bin/python install --no-deps --no-index \
        --root /application /wheel/*.whl


# All but the list of it. The largest layers, which change least, come first.
FROM system-${TORCH_VARIANT} AS contents
# Numeric ids, so that an orchestrator can see that it is not root. The cache is its home.
RUN groupadd --gid 10001 overlock \
    && useradd --uid 10001 --gid 10001 --home-dir /var/cache/overlock --shell /usr/sbin/nologin overlock \
    && install --directory --owner=10001 --group=10001 --mode=0700 /var/cache/overlock
COPY --from=torch /opt/overlock/ /opt/overlock/
COPY --from=packages /packages/opt/overlock/ /opt/overlock/
COPY --from=extras /extras/opt/overlock/ /opt/overlock/
COPY --from=application /application/opt/overlock/ /opt/overlock/
COPY docker/healthcheck.py docker/check_kernels.py /opt/overlock/
# There is no image for GPUs that could launch no kernel on one.
ARG TORCH_VARIANT
RUN if [ "${TORCH_VARIANT}" = cuda ]; then \
        /opt/overlock/bin/python -I /opt/overlock/check_kernels.py "${NVIDIA_REQUIRE_CUDA}"; \
    fi


FROM contents AS listed
COPY --from=installer /opt/installer/ /opt/installer/
COPY docker/list_packages.py /source/
RUN /opt/installer/bin/python /source/list_packages.py /opt/overlock/bin/python > /source/sbom.cdx.json


FROM contents AS service
COPY --from=listed /source/sbom.cdx.json /opt/overlock/sbom.cdx.json
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

ARG BASE_IMAGE
ARG SOURCE=unknown
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="overlock-service" \
      org.opencontainers.image.description="An HTTP inference service for OverLoCK" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.url="${SOURCE}" \
      org.opencontainers.image.documentation="${SOURCE}/blob/${REVISION}/docker/README.md" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
