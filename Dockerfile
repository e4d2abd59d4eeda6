# The image holds the binary, certificate authorities and the default configuration, and nothing else: no library, no shell.
#   docker build -t nanogate .

FROM rust:1-slim-bookworm AS build
RUN command -v cmake make cc >/dev/null || (apt-get update -qq && apt-get install -y -qq --no-install-recommends cmake make gcc libc6-dev ca-certificates)
WORKDIR /src
# Dependencies first: they are built again only when these files change.
COPY Cargo.toml Cargo.lock rust-toolchain.toml ./
COPY .cargo .cargo
COPY deploy/binary deploy/rustc deploy/nanogate.profdata.gz deploy/nanogate.profdata.rustc deploy/nanogate.order.gz deploy/
RUN mkdir -p src tests/it benches && touch src/lib.rs tests/it/main.rs benches/rooms.rs && echo 'fn main() {}' > src/main.rs \
 && deploy/binary && rm -rf src
COPY src src
COPY conf conf
RUN touch src/main.rs src/lib.rs && deploy/binary
# glibc resolves names from its own code as long as it is asked for no other source than these two.
RUN mkdir -p /root-of-image/app /root-of-image/etc/ssl/certs /root-of-image/usr/local/bin \
 && cp target/image/release/nanogate /root-of-image/usr/local/bin/ \
 && cp /etc/ssl/certs/ca-certificates.crt /root-of-image/etc/ssl/certs/ \
 && cp conf/litellm_config.yaml /root-of-image/app/config.yaml \
 && printf 'nanogate:x:65532:65532::/nonexistent:/nonexistent\n' > /root-of-image/etc/passwd \
 && printf 'hosts: files dns\n' > /root-of-image/etc/nsswitch.conf
# The shipped configuration is checked by the binary that ships with it, with nothing but the image around it.
RUN LITELLM_MASTER_KEY=sk-only-for-the-check-at-build-time NANOGPT_API_KEY=sk-nano-check \
    chroot /root-of-image /usr/local/bin/nanogate check -c /app/config.yaml

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="nanogate" \
      org.opencontainers.image.description="A gateway for LLM APIs that takes the place of the LiteLLM proxy container" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /root-of-image /
USER 65532:65532
WORKDIR /app
EXPOSE 4000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["/usr/local/bin/nanogate", "health"]
ENTRYPOINT ["/usr/local/bin/nanogate", "supervise"]
CMD ["--config", "/app/config.yaml"]
