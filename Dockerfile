# SPDX-License-Identifier: Apache-2.0
# The images of the operator and of the agent, targets `operator` and `agent`.
#
#     docker build --target agent --tag registry.example.com/memplace/agent:0.1.0 .
#
# DEBIAN_IMAGE  a Debian 13 with apt, from which the next two are made unless they are given.
# BASE_IMAGE    what the product runs on: Debian 13's /usr/bin/python3 (3.13) and
#               its libraries. It may have no shell: the last stages only copy.
# BUILD_IMAGE   the same Debian with gcc, python3-dev, libffi-dev and uv.
# UV_DEFAULT_INDEX  a package index other than PyPI.
ARG DEBIAN_IMAGE=docker.io/library/debian:trixie-slim
ARG BASE_IMAGE=debian-base
ARG BUILD_IMAGE=debian-build

FROM ${DEBIAN_IMAGE} AS debian-base
RUN --mount=type=bind,source=packaging,target=/packaging \
    sh /packaging/install-packages base

FROM ${DEBIAN_IMAGE} AS debian-build
ARG UV_DEFAULT_INDEX
RUN --mount=type=bind,source=packaging,target=/packaging \
    sh /packaging/install-packages build && sh /packaging/install-uv

FROM ${BUILD_IMAGE} AS build
# The root file system is read-only where this runs: bytecode is made here, and
# never compared with time stamps, which layers do not keep.
ENV UV_PYTHON=/usr/bin/python3 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
WORKDIR /src
COPY pyproject.toml uv.lock ./
COPY core/pyproject.toml core/
COPY operator/pyproject.toml operator/
COPY node-agent/pyproject.toml node-agent/
COPY cli/pyproject.toml cli/
COPY lab/pyproject.toml lab/
COPY packaging/install-locked packaging/finish-app /usr/local/bin/

# Dependencies, from uv.lock alone: this layer changes when the lock file does.
FROM build AS operator-deps
ARG UV_DEFAULT_INDEX
RUN install-locked memplace-operator /opt/memplace/deps

FROM build AS agent-deps
ARG UV_DEFAULT_INDEX
RUN install-locked memplace-agent /opt/memplace/deps

# Our own code.
FROM operator-deps AS operator-app
COPY core/src/memplace /opt/memplace/app/memplace
COPY core/src/memplace_kube /opt/memplace/app/memplace_kube
COPY operator/src/memplace_operator /opt/memplace/app/memplace_operator
RUN finish-app memplace_operator

FROM agent-deps AS agent-app
COPY node-agent/build_ffi.py ./
COPY node-agent/sys ./sys
COPY packaging/compile-ffi /usr/local/bin/
RUN PYTHONPATH=/opt/memplace/deps compile-ffi build_ffi.py /opt/memplace/app
COPY core/src/memplace /opt/memplace/app/memplace
COPY core/src/memplace_kube /opt/memplace/app/memplace_kube
COPY node-agent/src/memplace_agent /opt/memplace/app/memplace_agent
COPY node-agent/bin/memplace-agent /opt/memplace/app/bin/memplace-agent
RUN finish-app memplace_agent

FROM ${BASE_IMAGE} AS runtime
ARG VERSION=0.1.0
ENV PYTHONPATH=/opt/memplace/app:/opt/memplace/deps \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
EXPOSE 8080
LABEL org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.vendor="memplace" \
      org.opencontainers.image.version="${VERSION}"

FROM runtime AS operator
COPY --from=operator-deps /opt/memplace/deps /opt/memplace/deps
COPY --from=operator-app /opt/memplace/app /opt/memplace/app
LABEL org.opencontainers.image.title="memplace operator" \
      org.opencontainers.image.description="Checks, explains and aggregates memory placements"
USER 65532:65532
ENTRYPOINT ["/usr/bin/python3", "-m", "memplace_operator"]

FROM runtime AS agent
COPY --from=agent-deps /opt/memplace/deps /opt/memplace/deps
COPY --from=agent-app /opt/memplace/app /opt/memplace/app
LABEL org.opencontainers.image.title="memplace agent" \
      org.opencontainers.image.description="Places and measures the memory of a node's pods"
# Root with two capabilities (the chart says which): the pods of a node belong
# to any user, and Kubernetes gives capabilities to root only.
USER 0:0
ENV PATH=/opt/memplace/app/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENTRYPOINT ["/usr/bin/python3", "-m", "memplace_agent"]
