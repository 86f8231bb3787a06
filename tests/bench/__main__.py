"""`python -m tests.bench [RUNS]`: every figure that the project holds itself to, beside its floor, all in one run.

The exit status is 1 when a figure is below its floor. Rows that cannot be measured here say so.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from typing import Final

from tests.bench import api, hooks, product, scheduler, transports, workers
from tests.bench.asterisk import ami_notify_rate
from tests.bench.floors import COUNT, SIPP_COUNT, WINDOW, bare_loop, running_responder, sipp_as_installed, sipp_best

PHONES: Final = 100_000


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `good` None: not measured here."""

    what: str
    figure: str
    floor: str
    good: bool | None


def throughput_rows(runs: int) -> list[Row]:
    """Measure NOTIFYs, the bare loop, SIPp and Asterisk in turns."""
    ours: list[float] = []
    bare: list[float] = []
    sipp: list[float] = []
    plain: list[float] = []
    with product.bench(PHONES) as (redis, phones, _), running_responder() as other:
        for _ in range(runs):
            bare.append(bare_loop(COUNT, WINDOW, other.port, words=("distinct",)))
            ours.append(product.throughput(redis, phones))
            if shutil.which("sipp"):
                plain.append(sipp_as_installed(other.port))
                sipp.append(sipp_best(SIPP_COUNT, other.port))
    rate = product.median(ours)
    each = " ".join(f"{one:,.0f}" for one in ours)
    rows = [
        Row(f"NOTIFY transactions/s, {PHONES:,} phones, outcomes in redis-server", f"{rate:,.0f} ({each})", "", True)
    ]
    rows.append(_ratio("… against a bare uvloop loop", rate, product.median(bare), 0.5))
    if sipp:
        rows.append(_ratio("… against SIPp as installed (-r)", rate, product.median(plain), 2.0))
        rows.append(
            _ratio("… against SIPp tuned for it (-users, 1 ms timer, 4 MB buffers)", rate, product.median(sipp), 2.0)
        )
    else:
        rows.append(Row("… against SIPp", "sipp is not installed", "2", None))
    asterisk = ami_notify_rate()
    if asterisk is None:
        rows.append(
            Row("… against Asterisk's AMI PJSIPNotify", "no Asterisk given (RESYNCCTL_BENCH_ASTERISK)", "3", None)
        )
    else:
        rows.append(_ratio("… against Asterisk's AMI PJSIPNotify", rate, asterisk, 3.0))
    return rows


def _ratio(what: str, rate: float, other: float, floor: float) -> Row:
    ratio = rate / other if other else 0.0
    return Row(what, f"{ratio:.2f} of {other:,.0f}", f"{floor:g}", ratio >= floor)


def other_rows() -> list[Row]:
    """Measure everything else."""
    paced = product.pacing(1000, 30)
    run, redis_bytes = product.million()
    starts = product.help_seconds()
    pause = product.pause_seconds()
    resident = run.resident / 1e6
    return [
        Row(
            "sent_at minus planned_at at 1,000/s for 30 s, p50",
            f"{paced.p50 * 1000:.2f} ms",
            "< 1 ms",
            paced.p50 < 0.001,
        ),
        Row("  p99", f"{paced.p99 * 1000:.2f} ms", "< 5 ms", paced.p99 < 0.005),
        Row(
            "  most heard in any one second",
            f"{paced.busiest_second}",
            "1000 (+ 5 by the way)",
            paced.busiest_second <= 1005,
        ),
        Row("resident memory at 1,000,000 phones, planning included", f"{resident:.0f} MB", "< 400 MB", resident < 400),
        Row("Redis, a phone", f"{redis_bytes:.0f} bytes", "<= 100 bytes", redis_bytes <= 100),
        Row("1,000,000 phones sent to", f"{1_000_000 / run.seconds:,.0f}/s", "", True),
        Row("resyncctl --help", f"{starts:.2f} s", "< 0.3 s", starts < 0.3),
        Row("last NOTIFY after `rollout pause` returned", f"{max(0.0, pause):.2f} s", "<= 1 s", pause <= 1.0),
    ]


def service_rows() -> list[Row]:
    """Measure the service."""
    first = api.measure()
    alone, together = workers.cpu_of_a_notify(1), workers.cpu_of_a_notify(4)
    storm = hooks.storm(10_000)
    lag = scheduler.measure()
    good = storm.rollouts == 1 and set(storm.statuses) == {202}
    return [
        Row("API call to the first NOTIFY on the wire, p50", f"{first * 1000:.0f} ms", "< 50 ms", first < 0.05),
        Row(
            "CPU of a NOTIFY, four workers against one",
            f"{together / alone:.2f} of {alone:.1f} us",
            "<= 1.15",
            together / alone <= 1.15,
        ),
        Row("hook calls/s over HTTP, all of them one rollout", f"{storm.rate:,.0f}", "", good),
        Row("  growth of the service's memory", f"{storm.grown / 1e6:.1f} MB", "< 10 MB", storm.grown < 10e6),
        Row("scheduler lag with 1,000 schedules, p99", f"{lag * 1000:.0f} ms", "< 100 ms", lag < 0.1),
    ]


def transport_rows() -> list[Row]:
    """Measure the transports, and the second SIP engine beside the first."""
    if not shutil.which("kamailio"):
        return [Row("NOTIFYs/s over UDP, TCP and TLS", "kamailio is not installed", "", None)]
    return [
        Row(
            f"NOTIFYs/s to a Kamailio, {engine}, {transport.upper()}",
            f"{speed.rate:,.0f} ({speed.cpu:.0f} us)",
            "",
            True,
        )
        for engine, transport, speed in transports.speeds()
    ]


def main(arguments: list[str]) -> int:
    """Measure, three runs of the throughput unless told; print the table."""
    rows = [*throughput_rows(int(arguments[0]) if arguments else 3), *other_rows(), *service_rows(), *transport_rows()]
    widths = [
        max(len(text) for text in column) for column in zip(*((row.what, row.figure) for row in rows), strict=True)
    ]
    for row in rows:
        verdict = {True: "", False: "  BELOW ITS FLOOR", None: "  not measured"}[row.good]
        floor = f"floor {row.floor}" if row.floor else ""
        sys.stdout.write(f"{row.what:<{widths[0]}}  {row.figure:<{widths[1]}}  {floor}{verdict}\n")
    return 1 if any(row.good is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
