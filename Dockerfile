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

# By number, so that a platform that demands a user other than root can see that this is one.
USER 10001:10001

# Where a SQLite file lies, unless HOOKMIRROR_DATABASE_URL says otherwise.
WORKDIR /data
VOLUME /data

EXPOSE 8000
STOPSIGNAL SIGTERM
# Endpoints and workers answer there alike. Whoever gives another --port or --metrics-port gives another check.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]

ENTRYPOINT ["hookmirror"]
CMD ["serve", "--host", "0.0.0.0"]
