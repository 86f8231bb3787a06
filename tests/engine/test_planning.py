"""From rows to targets: which row stands for a phone, what is counted, what is never sent twice."""

from __future__ import annotations

from resyncctl.engine.planning import Plan, Planner
from resyncctl.inventory.phone import parse_phone
from resyncctl.rollout.model import Action, Options, Target
from resyncctl.vendors import Catalogue

CATALOGUE = Catalogue.load()
AASTRA = "Aastra 6865i/4.2.0.2023"


def plan_of(*rows: dict[str, str], options: Options | None = None) -> Plan:
    with Planner(Options() if options is None else options, CATALOGUE) as planner:
        for row in rows:
            planner.add(parse_phone(row), row)
        return planner.make()


def targets_of(plan: Plan) -> list[Target]:
    return [target for _, targets in plan.batches() for target in targets]


def test_a_phone_is_reached_over_the_first_of_its_lines_that_can_be_sent_to() -> None:
    plan = plan_of(
        {"aor": "sip:1@pbx.test", "contact": "sip:1@10.0.0.1;transport=ws", "mac": "001122334455"},
        {"aor": "sip:2@pbx.test", "contact": "sip:2@10.0.0.1", "mac": "001122334455"},
        {"aor": "sip:3@pbx.test", "contact": "sip:3@10.0.0.1", "mac": "001122334455"},
    )
    [target] = targets_of(plan)
    assert (plan.skipped, target.contact) == ({}, "sip:2@10.0.0.1")
    assert target.lines.split(",") == ["1@pbx.test", "3@pbx.test"]


def test_notices_count_phones_and_not_their_lines() -> None:
    rows = [
        {"aor": f"sip:{n}@pbx.test", "contact": f"sip:{n}@10.0.0.1", "mac": "001122334455", "user_agent": AASTRA}
        for n in range(6)
    ]
    plan = plan_of(*rows)
    assert plan.will_reboot == 1
    assert plan.notices[0].startswith("1 phone will reboot although you asked for resync (Aastra")


def test_a_phone_that_reboots_on_a_resync_is_marked_so_that_no_crash_sends_it_another() -> None:
    plan = plan_of(
        {"aor": "sip:1@10.0.0.1", "user_agent": AASTRA},
        {"aor": "sip:2@10.0.0.1", "DBID_RESYNC_FROM_SIP": "1"},
        {"aor": "sip:3@10.0.0.1", "DBID_RESYNC_FROM_SIP": "0"},
        {"aor": "sip:4@10.0.0.1", "user_agent": "Yealink SIP-T46U 108.86.0.20"},
        {"aor": "sip:5@10.0.0.1"},
    )
    assert {target.aor[4]: target.reboots for target in targets_of(plan)} == {
        "1": "yes", "2": "yes", "3": "", "4": "maybe", "5": "",
    }  # fmt: skip
    assert plan.will_reboot == 2


def test_a_wanted_reboot_needs_no_mark() -> None:
    plan = plan_of({"aor": "sip:1@10.0.0.1", "user_agent": AASTRA}, options=Options(action=Action.REBOOT))
    assert [target.reboots for target in targets_of(plan)] == [""]
    assert plan.will_reboot == 0


def test_the_batches_of_a_preview_are_those_of_the_pacing_however_they_are_stored() -> None:
    rows = [{"aor": f"sip:{n}@10.0.0.1"} for n in range(1201)]
    plan = plan_of(*rows, options=Options(batch_size=600, batch_interval=10.0, random_delay=60.0, rate=0))
    assert [release.phones for release in plan.releases] == [600, 600, 1]
    assert max(plan.index.sizes) <= 512
    late = {"aor": "sip:x@10.0.0.1", "DBID_RANDOM_DELAY": "300"}
    plan = plan_of(late, *rows[:149], options=Options(batch_size=50))
    assert [release.phones for release in plan.releases] == [50, 50, 50]


def test_the_trigger_list_holds_each_way_of_sending_once() -> None:
    plan = plan_of(
        {"aor": "sip:1@10.0.0.1", "user_agent": AASTRA},  # plain check-sync, for want of a source
        {"aor": "sip:2@10.0.0.1"},  # plain check-sync, for an unknown make
    )
    assert [trigger.event for trigger in plan.triggers] == ["check-sync"]
    assert {target.trigger for target in targets_of(plan)} == {0}
