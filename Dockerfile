FROM python:3.11-slim-bookworm

LABEL org.opencontainers.image.title="legit_embedding" \
      org.opencontainers.image.description="Image and text embeddings as a Celery worker" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1 \
    TOKENIZERS_PARALLELISM=false
WORKDIR /app

# From what changes least to what changes most: torch with its CUDA libraries, the other packages, this one.
COPY constraints.txt ./
# The address of a package index with CPU builds of torch and torchvision: the image is without CUDA's libraries then.
ARG TORCH_INDEX=""
RUN pip install ${TORCH_INDEX:+--no-deps --index-url "$TORCH_INDEX"} -c constraints.txt torch torchvision
COPY pyproject.toml README.md LICENSE gpubatch.py ./
# With "demo" among them the image has the weights of a small text model.
ARG EXTRAS="flower,heif,otel"
RUN mkdir legit_embedding && echo '__version__ = "0"' > legit_embedding/__init__.py \
    && pip install -c constraints.txt ".[$EXTRAS]" \
    && pip uninstall --yes legit-embedding && rm -r legit_embedding \
    && python -c "import torchvision" # fails where torch and torchvision are not builds of one kind
# Debian packages to add. "g++" is the compiler that engine.compile needs.
ARG PACKAGES=""
RUN [ -z "$PACKAGES" ] || { apt-get update && apt-get install -y --no-install-recommends $PACKAGES \
    && rm -rf /var/lib/apt/lists/*; }
COPY legit_embedding legit_embedding
RUN pip install --no-deps . && rm -r legit_embedding
# The deployment's profile; mount another one here.
COPY celeryconfig celeryconfig

# Any user of group 0 may write to the cache and to nothing else: the rest can be read-only, with /tmp in memory.
ENV HOME=/tmp \
    HF_HOME=/cache/huggingface \
    LEGIT_ENGINE__COMPILE_CACHE=/cache/compile
RUN mkdir /cache && chmod 2775 /cache
VOLUME /cache
USER 10001:0

EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=20s --start-period=300s --retries=3 CMD ["legit-embedding", "health"]
CMD ["celery", "-A", "legit_embedding", "worker", "--pool=gpubatch", "--loglevel=INFO"]
