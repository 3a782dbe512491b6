FROM python:3.11-slim-bookworm

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1 \
    TOKENIZERS_PARALLELISM=false
WORKDIR /app

# From what changes least to what changes most: torch with its CUDA libraries, the other packages, this one.
COPY constraints.txt ./
RUN pip install -c constraints.txt torch torchvision
COPY pyproject.toml README.md LICENSE gpubatch.py ./
RUN mkdir legit_embedding && echo '__version__ = "0"' > legit_embedding/__init__.py \
    && pip install -c constraints.txt . \
    && pip uninstall --yes legit-embedding && rm -r legit_embedding
COPY legit_embedding legit_embedding
RUN pip install --no-deps . && rm -r legit_embedding
# The deployment's profile; mount another one here.
COPY celeryconfig celeryconfig

RUN useradd --create-home --uid 10001 worker
USER worker

HEALTHCHECK --interval=30s --timeout=20s --start-period=300s --retries=3 \
    CMD ["legit-embedding", "health"]
CMD ["celery", "-A", "legit_embedding", "worker", "--pool=gpubatch"]
