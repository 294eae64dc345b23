"""The words and quantities that more than one part of the API is made of, each with its form and its bounds.

Every string has a greatest length: the API server reckons the cost of a rule by it, and refuses a CRD whose rules could cost
too much.
"""

from typing import Annotated

from pydantic import Field

from tokenfleet import contract

OBJECT_NAME = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
FRACTION = "^(0[.](0[1-9]|[1-9][0-9]?)[0-9]{0,2}|1|1[.]0{1,2})$"
"""A decimal in quotes, above 0 and at most 1."""
_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"

ModelName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9]([A-Za-z0-9._:/-]*)$")]
"""What requests may call a model."""
ObjectName = Annotated[str, Field(min_length=1, max_length=contract.MAX_NAME_LENGTH, pattern=OBJECT_NAME)]
"""The name of an LLMDeployment or an LLMRouter."""
SecretName = Annotated[str, Field(min_length=1, max_length=253, pattern=_SUBDOMAIN)]
ClaimName = Annotated[str, Field(min_length=1, max_length=253, pattern=_SUBDOMAIN)]

Size = Annotated[str, Field(min_length=1, max_length=20, pattern=r"^[1-9][0-9]*([.][0-9]+)?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$")]
"""A number of bytes, such as 40Gi; never none."""
Quantity = Annotated[
    str, Field(min_length=1, max_length=20, pattern=r"^[0-9]+([.][0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi|e[0-9]{1,2})?$")
]
"""What Kubernetes takes as an amount of a resource, such as 500m, 8 or 64Gi; a string, so numbers are quoted."""
