# The Go compiler.
# needs: debian
# makes: golang:1.19
FROM debian:12
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates golang-go \
    && rm -rf /var/lib/apt/lists/*
ENV GOPATH=/go PATH=/go/bin:$PATH
WORKDIR /go
