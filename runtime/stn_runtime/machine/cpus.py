"""How many CPUs this process may use."""

import math
import os

from ..machine.control_groups import read_groups


def usable_cpus() -> int:
    """Return how many CPUs this process may run on: its CPU set, or a control group's quota where that is less."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cpus, math.ceil(_quota())))


def _quota() -> float:
    """Return how many CPUs' time the control groups grant on Linux; without a limit, more than there are."""
    quotas = [float(1 << 16)]
    limits = [*read_groups("cpu", "cpu.max"), *read_groups("cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us")]
    for quota, period in (words for words in limits if len(words) == 2):
        if quota.isdecimal() and period.isdecimal() and int(quota) and int(period):  # else 'max', or -1
            quotas.append(int(quota) / int(period))
    return min(quotas)
