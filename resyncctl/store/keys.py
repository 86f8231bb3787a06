"""Every Redis key: its name, its type and how long it lives. Nothing else builds a key.

The braces keep all keys of a rollout in one slot of a Redis Cluster.

    resyncctl:rollouts         sorted set  rollout IDs by creation time (microseconds)            for ever
    resyncctl:{ID}:meta        hash        state, plan hash, options, times, the report           for ever
    resyncctl:{ID}:lease       string      token of the process that dispatches the rollout       LEASE, renewed
    resyncctl:{ID}:w:TOKEN     string      a worker of the rollout is alive                       LEASE, renewed
    resyncctl:{ID}:owners      hash        batch number to the worker that has it                 until it is done
    resyncctl:{ID}:done        hash        batch number to the worker that finished it            RETENTION after the end
    resyncctl:{ID}:deaths      hash        batch number to how many of its workers have died      RETENTION after the end
    resyncctl:{ID}:reports     hash        worker to what it has counted; `plan`: what is skipped RETENTION after the end
    resyncctl:{ID}:slots       sorted set  send times that are given away, of the last seconds    an hour unused
    resyncctl:{ID}:upload:T    hash        a plan on its way to Redis; T is like no other            UPLOAD
    resyncctl:{ID}:plan        hash        batch number to compressed targets                     RETENTION after the end
    resyncctl:{ID}:b:N         hash        target's place in batch N to intent or outcome         RETENTION after the end
    resyncctl:{ID}:events      stream      the report each time it changed, EVENTS entries        RETENTION after the end

    resyncctl:served           set         rollouts that the service executes                     until they end
    resyncctl:kept:HASH        string      what a plan of the API was made of, and its report     KEPT
    resyncctl:once:KEY         string      what was made for an idempotency key, as JSON          ONCE
    resyncctl:workers          hash        process name to JSON: where, since when, what it does  until it leaves
    resyncctl:queue:POOL       stream      batches that wait for a worker of the pool, or run      until they are done
    resyncctl:freeze           string      JSON: who stopped all rollouts, when and why           until it is lifted
    resyncctl:schedules        hash        name to JSON                                           until it is removed
    resyncctl:scheduler        string      token of the process that schedules                    LEASE, renewed
    resyncctl:hooks            hash        name to JSON                                           until it is removed
    resyncctl:hook:NAME:…      several     what a hook has been told and has not acted on         until it acts
    resyncctl:tokens           hash        name to JSON, with the hash of the token               until it is revoked
    resyncctl:audit            stream      who did what, when, from where, AUDIT entries          for ever
"""

from __future__ import annotations

from typing import Final

from resyncctl.rollout.model import RolloutId

PREFIX: Final = "resyncctl"
LEASE: Final = 9.0
"""Seconds after which what a dead process had is free: with the time to notice it, others have it within ten."""
RETENTION: Final = 90 * 86_400
"""Seconds that the targets of an ended rollout stay."""
UPLOAD: Final = 86_400
"""Seconds that a plan lives that was never completed, because its command died while it wrote."""
EVENTS: Final = 1000

KEPT: Final = 86_400
"""Seconds that a plan waits for its rollout."""
ONCE: Final = 7 * 86_400
"""Seconds that an idempotency key is remembered."""
AUDIT: Final = 100_000

ROLLOUTS: Final = f"{PREFIX}:rollouts"
SERVED: Final = f"{PREFIX}:served"
WORKERS: Final = f"{PREFIX}:workers"
FREEZE: Final = f"{PREFIX}:freeze"
SCHEDULES: Final = f"{PREFIX}:schedules"
SCHEDULER: Final = f"{PREFIX}:scheduler"
HOOKS: Final = f"{PREFIX}:hooks"
TOKENS: Final = f"{PREFIX}:tokens"
AUDIT_LOG: Final = f"{PREFIX}:audit"


def kept(plan_hash: str) -> str:
    """String: what a plan was made of, and its report, as compressed JSON."""
    return f"{PREFIX}:kept:{plan_hash}"


def once(key: str) -> str:
    """String: what was made for an idempotency key."""
    return f"{PREFIX}:once:{key}"


def queue(pool: str) -> str:
    """Stream: batches for the workers of a pool; "" is the pool of those that name none."""
    return f"{PREFIX}:queue:{pool or 'default'}"


def hook(name: str, part: str) -> str:
    """What a hook has been told: `part` says which of its keys."""
    return f"{PREFIX}:hook:{name}:{part}"


def meta(rollout: RolloutId) -> str:
    """Hash: what is known of the rollout as a whole."""
    return f"{PREFIX}:{{{rollout}}}:meta"


def lease(rollout: RolloutId) -> str:
    """String with an expiry: who executes the rollout."""
    return f"{PREFIX}:{{{rollout}}}:lease"


def worker(rollout: RolloutId, token: str) -> str:
    """String with an expiry: a worker is alive."""
    return f"{PREFIX}:{{{rollout}}}:w:{token}"


def part(rollout: RolloutId, name: str) -> str:
    """One of `owners`, `done`, `deaths`, `reports`, `slots`; see above."""
    return f"{PREFIX}:{{{rollout}}}:{name}"


def upload(rollout: RolloutId, token: str) -> str:
    """Hash: batch number to block of targets, of a plan that is being written."""
    return f"{PREFIX}:{{{rollout}}}:upload:{token}"


def plan(rollout: RolloutId) -> str:
    """Hash: batch number to block of targets."""
    return f"{PREFIX}:{{{rollout}}}:plan"


def batch(rollout: RolloutId, number: int) -> str:
    """Hash: target's place in the batch to its packed outcome."""
    return f"{PREFIX}:{{{rollout}}}:b:{number}"


def events(rollout: RolloutId) -> str:
    """Stream: progress."""
    return f"{PREFIX}:{{{rollout}}}:events"
