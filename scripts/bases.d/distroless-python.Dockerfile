# The Python interpreter and its standard library on the distroless base: still no shell.
# needs: distroless
# makes: gcr.io/distroless/python3-debian12:latest root
# makes: gcr.io/distroless/python3-debian12:nonroot nonroot
FROM debian:12 AS debs
WORKDIR /debs
RUN apt-get update && apt-get download \
        libbz2-1.0 libexpat1 libffi8 liblzma5 libncursesw6 libnsl2 libpython3.11-minimal libpython3.11-stdlib \
        libreadline8 libsqlite3-0 libtinfo6 libtirpc3 libuuid1 python3.11-minimal zlib1g
RUN <<EOF
set -e
mkdir -p /out/var/lib/dpkg/status.d /out/usr/bin
for deb in *.deb; do
    dpkg-deb -x "$deb" /out
    dpkg-deb -f "$deb" >"/out/var/lib/dpkg/status.d/$(dpkg-deb -f "$deb" Package)"
done
ln -s python3.11 /out/usr/bin/python3
ln -s python3.11 /out/usr/bin/python
rm -rf /out/usr/share/doc /out/usr/share/lintian /out/usr/share/man
EOF

FROM gcr.io/distroless/cc-debian12 AS root
COPY --from=debs /out /
ENV LANG=C.UTF-8
ENTRYPOINT ["/usr/bin/python3.11"]

FROM root AS nonroot
USER 65532
WORKDIR /home/nonroot
