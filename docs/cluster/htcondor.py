"""Dask workers as HTCondor jobs: `python htcondor.py 50` starts 50 of them and says the address for `--scheduler`."""

import signal
import sys

from dask_jobqueue import HTCondorCluster


def make() -> HTCondorCluster:
    """Return a cluster without workers; every job is one worker with one core."""
    return HTCondorCluster(
        cores=1,
        processes=1,
        memory="3GB",
        disk="1GB",
        job_extra_directives={
            "should_transfer_files": "NO",  # everything is read and written on the shared file system
            "+MaxRuntime": "14400",  # seconds; the name of this attribute is the site's
        },
        worker_extra_args=["--lifetime", "230m", "--lifetime-stagger", "8m"],
        job_script_prologue=["export OMP_NUM_THREADS=1"],
        log_directory="logs",
        scheduler_options={"dashboard_address": None},
    )


if __name__ == "__main__":
    with make() as cluster:
        cluster.scale(jobs=int(sys.argv[1]))
        print(cluster.scheduler_address, flush=True)
        signal.pause()
