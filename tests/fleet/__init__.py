"""A fleet of real workers scaled as Kubernetes scales pods; ``scripts/soak --fleet`` runs it at size."""

from __future__ import annotations
