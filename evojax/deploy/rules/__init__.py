"""What each primitive does with channels: one rule for each kind."""

from evojax.deploy.rules.elementwise import ELEMENTWISE
from evojax.deploy.rules.lookups import LOOKUPS
from evojax.deploy.rules.movement import MOVEMENT
from evojax.deploy.rules.opaque import OPAQUE
from evojax.deploy.rules.products import PRODUCTS
from evojax.deploy.rules.reductions import REDUCTIONS
from evojax.deploy.rules.rule import Fact, Joined, Kept, Rule, Sink

RULES: dict[str, Rule] = {**ELEMENTWISE, **MOVEMENT, **REDUCTIONS, **PRODUCTS, **LOOKUPS}

__all__ = ["OPAQUE", "RULES", "Fact", "Joined", "Kept", "Rule", "Sink"]
