"""What makes an evolved network really smaller and faster."""

from evojax.deploy.autotuning import Autotuned, autotune
from evojax.deploy.channels import channels
from evojax.deploy.checks import InconsistentError
from evojax.deploy.compaction import Compacted, compact
from evojax.deploy.cost import Cost, Product, cost
from evojax.deploy.export import Exported, description, export
from evojax.deploy.report import Report, Variable, Whole
from evojax.deploy.sparse import load_sparse

__all__ = [
    "Autotuned",
    "Compacted",
    "Cost",
    "Exported",
    "InconsistentError",
    "Product",
    "Report",
    "Variable",
    "Whole",
    "autotune",
    "channels",
    "compact",
    "cost",
    "description",
    "export",
    "load_sparse",
]
