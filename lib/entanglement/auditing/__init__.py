"""The audit: what a training on a file of comparisons will do, told before it begins.

``audit`` reads the file, gives every row a verdict, and rehearses the run: it takes the mean gradient of the
loss over sampled rows, moves the model along the direction that the optimizer will walk, looks at held-out
responses, and undoes the step.
"""

from __future__ import annotations

from entanglement.auditing.findings import AuditReport
from entanglement.auditing.rehearsal import Number, rehearse, turning_number
from entanglement.auditing.running import audit
from entanglement.auditing.walk import Walk, plan_walk

__all__ = ["AuditReport", "Number", "Walk", "audit", "plan_walk", "rehearse", "turning_number"]
