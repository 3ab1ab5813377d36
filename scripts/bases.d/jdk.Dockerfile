# The Java runtime alone, and with the compiler on top of it.
# needs: debian
# makes: eclipse-temurin:17-jre jre
# makes: eclipse-temurin:17-jdk jdk
FROM debian:12 AS jre
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates openjdk-17-jre-headless \
    && rm -rf /var/lib/apt/lists/*
CMD ["java", "-version"]

FROM jre AS jdk
RUN apt-get update \
    && apt-get install -y --no-install-recommends openjdk-17-jdk-headless \
    && rm -rf /var/lib/apt/lists/*
CMD ["jshell"]
