# Python with venv and pip.
# needs: debian
# makes: python:3.11-slim
FROM debian:12
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3-venv \
    && rm -rf /var/lib/apt/lists/*
CMD ["python3"]
