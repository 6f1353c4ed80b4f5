FROM python:3.11-slim AS build

WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY receiver receiver
COPY handlers handlers
COPY vendors vendors
COPY simulator simulator
RUN python -m venv /opt/hookmirror \
 && /opt/hookmirror/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt .


FROM python:3.11-slim

RUN groupadd --gid 10001 hookmirror \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin hookmirror \
 && install --directory --owner=hookmirror --group=hookmirror --mode=0750 /data
COPY --from=build /opt/hookmirror /opt/hookmirror

ENV PATH=/opt/hookmirror/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOOKMIRROR_VITALS=8000

# A number, by which a platform that refuses root can see that the user is not root.
USER 10001:10001

# The folder of the SQLite file, unless HOOKMIRROR_DATABASE_URL names another database.
WORKDIR /data
VOLUME /data

EXPOSE 8000
STOPSIGNAL SIGTERM
# Endpoints and workers both answer there. If you set another --port or --metrics-port, set another check, too.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]

ENTRYPOINT ["hookmirror"]
CMD ["serve", "--host", "0.0.0.0"]
