# What a C, C++ or Rust program needs and nothing to log in with: no shell, no package manager.
# needs: debian
# makes: gcr.io/distroless/cc-debian12:latest root
# makes: gcr.io/distroless/cc-debian12:nonroot nonroot
FROM debian:12 AS debs
WORKDIR /debs
RUN apt-get update && apt-get download \
        base-files ca-certificates libc6 libgcc-s1 libgomp1 libssl3 libstdc++6 media-types netbase tzdata
RUN <<EOF
set -e
mkdir -p /out/var/lib/dpkg/status.d /out/home/nonroot /out/root /out/etc/ssl/certs
for deb in *.deb; do
    dpkg-deb -x "$deb" /out
    # Scanners learn from here what is in the image.
    dpkg-deb -f "$deb" >"/out/var/lib/dpkg/status.d/$(dpkg-deb -f "$deb" Package)"
done
cat /out/usr/share/ca-certificates/mozilla/*.crt >/out/etc/ssl/certs/ca-certificates.crt
printf '%s\n' 'passwd: files' 'group: files' 'hosts: files dns' >/out/etc/nsswitch.conf
printf '%s\n' root:x:0:0:root:/root:/sbin/nologin nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin \
    nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin >/out/etc/passwd
printf '%s\n' root:x:0: tty:x:5: staff:x:50: nobody:x:65534: nonroot:x:65532: >/out/etc/group
chown 65532:65532 /out/home/nonroot && chmod 700 /out/home/nonroot /out/root
rm -rf /out/usr/share/doc /out/usr/share/lintian /out/usr/share/man /out/usr/sbin
EOF

FROM scratch AS root
COPY --from=debs /out /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 0
WORKDIR /

FROM root AS nonroot
USER 65532
WORKDIR /home/nonroot
