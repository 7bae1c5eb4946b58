"""`make soak`: many clients against a reference model while processes and stores die; see `isotach.testing.soak`.

Owns: the command line. Never: judges.
"""

import argparse
import secrets
import sys

from isotach.testing.soak.run import SoakPlan, soak


def main() -> int:
    """Parses the arguments and runs; returns 1 when anything was wrong. Replay: the same --seed."""
    parser = argparse.ArgumentParser(description="Soak test: clients against a model while processes die")
    parser.add_argument("--seed", default="", help="what decides everything that is random (default: a new one)")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (10)")
    parser.add_argument("--clients", type=int, default=64, help="how many (64)")
    parser.add_argument("--processes", type=int, default=4, help="in how many processes (4; 0: threads of this one)")
    parser.add_argument("--workers", type=int, default=3, help="workers of the cluster (3)")
    parser.add_argument("--no-s3", action="store_true", help="local under storage only")
    parser.add_argument("--keep", action="store_true", help="keep the folder even when nothing was wrong")
    given = parser.parse_args()
    plan = SoakPlan(
        seed=given.seed or secrets.token_hex(4),
        seconds=given.minutes * 60,
        clients=given.clients,
        processes=given.processes,
        workers=given.workers,
        with_s3=not given.no_s3,
        keep=given.keep,
    )
    print(f"seed {plan.seed}", flush=True)
    report = soak(plan)
    print(report.text())
    if report.problems:
        print(f"logs in {report.folder}; again: make soak SEED={plan.seed}")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
