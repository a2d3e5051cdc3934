# Brickwork as a container: docker build -t brickwork .
#
# Built where there is a compiler, run where there is none. Nothing here depends on the building machine's CPU: the
# program picks its kernels when it starts. deploy/container.sh proves what this file promises.

FROM docker.io/library/debian:bookworm-slim AS build
WORKDIR /src
COPY Makefile ./
COPY tools/install.sh tools/
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends make && make packages-build
COPY . .
RUN make -j"$(nproc)" CFLAGS=-O3 all && make install CFLAGS=-O3 DESTDIR=/out && strip /out/usr/local/bin/*

FROM docker.io/library/debian:bookworm-slim

# The libraries that the two programs are linked with. OpenBLAS is the one the tests run with; Debian's without threads
# is as large.
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends \
        libcurl4 libhiredis0.14 libjansson4 libjpeg62-turbo libmicrohttpd12 libnettle8 libopenblas0-pthread libpng16-16 \
        libuv1 libwebp7 libwebpmux3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/* \
 && useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent \
            --shell /usr/sbin/nologin brickwork \
 && install -d -o brickwork -g brickwork -m 750 /var/lib/brickwork

COPY --from=build /out/ /
RUN brickworkd --version && brickwork info >/dev/null

# By number, so that an orchestrator sees that it is not root's. Nothing is written but what a setting asks for:
# /var/lib/brickwork is there for --jobs, and belongs on a volume.
USER 10001:10001
WORKDIR /
ENV BRICKWORK_LISTEN=0.0.0.0:8080
# The engine keeps OpenBLAS at one thread, but only this keeps it from starting one for every core of the machine.
ENV OPENBLAS_NUM_THREADS=1
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD brickwork health --url "http://127.0.0.1:${BRICKWORK_LISTEN##*:}"
ENTRYPOINT ["brickworkd"]

# Last, since they change with every build.
ARG VERSION=dev
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="Brickwork" \
      org.opencontainers.image.description="HTTP image generation with LEGO-brick diffusion models, on CPUs" \
      org.opencontainers.image.licenses="MIT AND CC0-1.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="docker.io/library/debian:bookworm-slim"
