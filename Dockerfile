# The image of all ReviewLoop services: a virtual environment, and a user that owns only its cache.
# Every package is a wheel with the version and the hash in deploy/image/*.txt, which `make image-requirements` writes.
# PyTorch's wheel on PyPI includes CUDA and runs on the CPU as well. For the much smaller CPU build, pass PyTorch's
# package index as build argument PIP_EXTRA_INDEX_URL and the version as TORCH (for example torch==2.13.0+cpu): this
# wheel is installed without a hash.
FROM python:3.12.12-slim-bookworm AS build
ARG PIP_EXTRA_INDEX_URL
ARG TORCH
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ONLY_BINARY=:all:
RUN python -m venv /opt/reviewloop && python -m venv /opt/build
ENV PATH=/opt/reviewloop/bin:$PATH
WORKDIR /build
COPY deploy/image/requirements.txt deploy/image/build-requirements.txt ./
RUN if [ -n "$TORCH" ]; then \
      awk '/^[^ ]/ {keep = !/^(torch|triton|cuda-|nvidia-)/} keep' requirements.txt > without-torch.txt \
      && mv without-torch.txt requirements.txt; \
    fi \
 && pip install --require-hashes --no-deps -r requirements.txt \
 && if [ -n "$TORCH" ]; then pip install "$TORCH"; fi
COPY pyproject.toml README.md LICENSE ./
COPY reviews reviews
COPY classifier classifier
COPY storage storage
COPY broker broker
COPY drift drift
COPY pages pages
COPY consumer consumer
COPY trainer trainer
COPY console console
COPY reviewloop reviewloop
RUN /opt/build/bin/pip install --require-hashes --no-deps -r build-requirements.txt \
 && /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
 && pip install --no-deps wheels/*.whl \
 && pip check

FROM python:3.12.12-slim-bookworm
RUN useradd --system --uid 10001 --user-group --home-dir /var/cache/reviewloop --create-home reviewloop
COPY --from=build /opt/reviewloop /opt/reviewloop
# The cache holds adapters and base models, which can be fetched again from the database and the hub.
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
