# syntax=docker/dockerfile:1

FROM rust:1-bookworm AS build
WORKDIR /build
# .dockerignore lets in only what the build needs.
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/build/target,sharing=locked \
    cargo build --locked --release --bin vexil \
    && install -D -m 0755 target/release/vexil /out/vexil \
    && mkdir /out/data

# The same Debian release as above, for the C library. No shell and no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="Vexil" \
      org.opencontainers.image.description="A self-hosted feature flag server" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/vexil /usr/local/bin/vexil
# The database when there is no PostgreSQL. The only folder that is written to.
COPY --from=build --chown=65532:65532 /out/data /data
ENV VEXIL_LISTEN=0.0.0.0:8080 \
    VEXIL_DATA_DIR=/data
# By number, so that an orchestrator can tell that it is not root.
USER 65532:65532
VOLUME ["/data"]
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/vexil"]
CMD ["serve"]
