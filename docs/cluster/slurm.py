"""Dask workers as Slurm jobs: `python slurm.py 50` starts 50 of them and says the address for `--scheduler`."""

import signal
import sys

from dask_jobqueue import SLURMCluster


def make() -> SLURMCluster:
    """Return a cluster without workers; every job is one worker with one core."""
    return SLURMCluster(
        queue="main",  # partition
        account=None,
        walltime="04:00:00",
        cores=1,
        processes=1,
        memory="3GB",
        worker_extra_args=["--lifetime", "230m", "--lifetime-stagger", "8m"],  # leave before Slurm kills
        job_script_prologue=["export OMP_NUM_THREADS=1"],
        log_directory="logs",
        scheduler_options={"dashboard_address": None},
    )


if __name__ == "__main__":
    with make() as cluster:
        cluster.scale(jobs=int(sys.argv[1]))
        print(cluster.scheduler_address, flush=True)
        signal.pause()
