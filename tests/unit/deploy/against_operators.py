"""Validates resources of KEDA and of the Prometheus operator, a JSON list on standard input, against their own types.

To be run where cloudcoil's models are installed, which are made from the operators' resource definitions.
"""

from __future__ import annotations

import json
import sys

from cloudcoil.models.keda.v1alpha1 import ScaledObject, TriggerAuthentication
from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule

TYPES = {each.__name__: each for each in (ScaledObject, TriggerAuthentication, PodMonitor, PrometheusRule)}


def main() -> None:
    for resource in json.load(sys.stdin):
        read = TYPES[resource["kind"]].model_validate(resource)
        # The models drop keys that they don't know.
        again = read.model_dump(mode="json", by_alias=True, exclude_unset=True)
        if again != resource:
            sys.exit(f"{resource['kind']}: keys that it does not have:\n{json.dumps(resource)}\n{json.dumps(again)}")


if __name__ == "__main__":
    main()
