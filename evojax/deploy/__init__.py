"""What makes an evolved network really smaller and faster."""

from evojax.deploy.checks import InconsistentError
from evojax.deploy.compaction import Compacted, compact
from evojax.deploy.report import Report, Variable, Whole

__all__ = ["Compacted", "InconsistentError", "Report", "Variable", "Whole", "compact"]
