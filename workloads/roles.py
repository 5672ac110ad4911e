"""The roles that a tensor can play; known to every folder, so it needs no torch."""

from typing import Literal, get_args

Role = Literal["weights", "kv_cache", "activations", "logits"]
ROLES: tuple[Role, ...] = get_args(Role)
