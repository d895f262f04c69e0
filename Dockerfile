# The image of every ReviewLoop service: a virtual environment, and a user that owns nothing but its cache.
# PyTorch's wheel on PyPI brings CUDA and runs on the CPU as well; for the much smaller CPU build, pass PyTorch's
# own package index as build argument PIP_EXTRA_INDEX_URL, and its version as TORCH (torch==2.13.0+cpu, say).
FROM python:3.12-slim-bookworm AS build
ARG PIP_EXTRA_INDEX_URL
ARG TORCH
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/reviewloop
ENV PATH=/opt/reviewloop/bin:$PATH
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY reviews reviews
COPY classifier classifier
COPY storage storage
COPY broker broker
COPY drift drift
COPY consumer consumer
COPY trainer trainer
COPY reviewloop reviewloop
RUN if [ -n "$TORCH" ]; then grep -v '^torch==' constraints.txt > c && mv c constraints.txt && pip install "$TORCH"; fi \
 && pip install -c constraints.txt '.[train]'

FROM python:3.12-slim-bookworm
RUN useradd --system --uid 10001 --user-group --home-dir /var/cache/reviewloop --create-home reviewloop
COPY --from=build /opt/reviewloop /opt/reviewloop
# Adapters and base models are caches: whatever is lost there comes back from the database and the hub.
ENV PATH=/opt/reviewloop/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    XDG_CACHE_HOME=/var/cache \
    HF_HOME=/var/cache/reviewloop/huggingface
USER 10001:10001
WORKDIR /var/cache/reviewloop
VOLUME /var/cache/reviewloop
STOPSIGNAL SIGTERM
ENTRYPOINT ["reviewloop"]
CMD ["consume"]
