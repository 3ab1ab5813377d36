# Node.js, and Node.js with npm, which comes as a tarball: Debian's package of it is 400 packages.
# needs: debian
# makes: node:18-slim slim
# makes: node:18 full
FROM debian:12 AS slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates nodejs \
    && rm -rf /var/lib/apt/lists/*
CMD ["node"]

FROM slim AS full
ADD https://registry.npmjs.org/npm/-/npm-10.8.2.tgz /tmp/npm.tgz
RUN mkdir -p /usr/local/lib/node_modules \
    && tar -xzf /tmp/npm.tgz -C /usr/local/lib/node_modules --transform 's,^package,npm,' --no-same-owner \
    && rm /tmp/npm.tgz \
    && ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm \
    && ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx \
    && chmod 755 /usr/local/lib/node_modules/npm/bin/*-cli.js && npm --version
