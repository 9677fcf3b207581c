"""What is said of jobs that were stopped before their end: when the dock closes, and when its project is opened again."""

from __future__ import annotations

from .state import JOB_WORDS, JobName, LoopState, Phase

RESUMED_IN: dict[JobName, int] = {"pretrain": 2, "finetune": 3}
"""Jobs that can be taken up where they were stopped, and in which step."""


def cut_short(state: LoopState) -> str | None:
    """Return a sentence about the runs that can go on because they did not come to their end."""
    said = []
    for job, step in RESUMED_IN.items():
        last = state.last_runs.get(job)
        if last is not None and not last.is_over:
            at = f" at {last.done:.0%}" if last.done is not None and last.done < 1 else ""
            said.append(f"{last.run.name} was cut short{at}: Resume in step {step} goes on with it.")
    return " ".join(said) or None


def ended_by_closing(state: LoopState) -> str | None:
    """Return a sentence about the job that ends because the dock closes; None if there is none."""
    if state.job is None:
        return None
    what, step = JOB_WORDS[state.job].capitalize(), RESUMED_IN.get(state.job)
    if step is None or state.phase is Phase.STARTING:
        return f"{what} was stopped."
    return f"{what} was stopped and saved: Resume in step {step} goes on with it."
