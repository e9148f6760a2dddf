# Both bases can be replaced: by a private copy, or by an image of one's own.
# The builder needs Rust, a C compiler and the C library's headers; the runtime needs glibc, libgcc and the CA certificates.
ARG BUILDER=docker.io/library/rust:1.95-slim-bookworm
ARG RUNTIME=gcr.io/distroless/cc-debian12

FROM ${BUILDER} AS build
WORKDIR /src
COPY . .
# With the crates in vendor/ (`cargo vendor`) nothing is fetched and the build runs without a network.
RUN if [ -d vendor ]; then \
        cargo build --release --locked --offline --bin sig-repo \
            --config 'source.crates-io.replace-with="vendored"' \
            --config 'source.vendored.directory="vendor"'; \
    else \
        cargo build --release --locked --bin sig-repo; \
    fi \
    && install -D target/release/sig-repo /out/sig-repo \
    && mkdir /out/data

FROM ${RUNTIME}
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="image-signature-repo" \
      org.opencontainers.image.description="A signature repository for container images, and the registry mirror that enforces it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /out/sig-repo /usr/local/bin/sig-repo
# A named volume takes this owner over. A directory of the host does not: there the process, started as root,
# takes the directory over and then drops root itself, which is why no USER stands here.
COPY --from=build --chown=65532:65532 /out/data /data
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["/usr/local/bin/sig-repo", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/sig-repo"]
