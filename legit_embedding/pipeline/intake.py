"""The way of tasks into the pipeline: admitted, or refused and answered, and queued for prep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from legit_embedding.errors import TaskError
from legit_embedding.pipeline.admission import ANY

if TYPE_CHECKING:
    from legit_embedding.pipeline.accounts import Accounts
    from legit_embedding.pipeline.admission import Admission, Terms
    from legit_embedding.pipeline.job import Job
    from legit_embedding.prep.stage import PrepStage


class Intake:
    """Admits jobs and queues them for prep. Whatever fails on the way is the job's answer: none stays unsettled.

    Args:
        admission: reads tasks into jobs.
        accounts: counts jobs in.
        stage: prepares them.
    """

    def __init__(self, admission: Admission, accounts: Accounts, stage: PrepStage[Job]) -> None:
        self._admission = admission
        self._accounts = accounts
        self._stage = stage

    def admits(self, job: Job, raw: object, terms: Terms = ANY) -> bool:
        """Admit a task; False if it is refused, and answered."""
        try:
            self._admission.admit(job, raw, terms)
        except Exception as error:  # noqa: BLE001 - nothing between a source and its answer leaves a task unsettled
            self._accounts.opened([job])
            _refuse(job, error)
            return False
        return True

    def take_on(self, jobs: list[Job]) -> None:
        """Queue admitted jobs of one source and model."""
        self._accounts.opened(jobs)
        try:
            self._stage.submit(jobs[0].model, *jobs)
        except Exception as error:  # noqa: BLE001
            for job in jobs:
                _refuse(job, error)

    def refuse(self, job: Job, raw: object, error: TaskError) -> None:
        """Answer a task with an error, without validating it further."""
        self._accounts.opened([job])
        try:
            self._admission.read_address(job, raw)
        except Exception as problem:  # noqa: BLE001
            job.crashed("reading the task", problem)
        else:
            job.failed(error)


def _refuse(job: Job, error: Exception) -> None:
    if isinstance(error, TaskError):
        job.failed(error)
    else:
        job.crashed("taking the task", error)
