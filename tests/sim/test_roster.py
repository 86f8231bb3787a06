"""Made-up phones, doubles of listed phones, and the list that a fleet writes."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from resyncctl.errors import InputError
from resyncctl.inventory.csv_file import CsvPhones
from resyncctl.sim.roster import SimulatedPhone, make_phones, write_csv
from resyncctl.vendors import Catalogue

CATALOGUE = Catalogue.load()


def test_made_up_phones_depend_on_their_number_and_the_seed_alone() -> None:
    phones = make_phones(100, domain="pbx.test", seed=5, catalogue=CATALOGUE)
    assert phones[:10] == make_phones(10, domain="pbx.test", seed=5, catalogue=CATALOGUE)
    assert phones[:10] != make_phones(10, domain="pbx.test", seed=6, catalogue=CATALOGUE)


def test_made_up_phones_are_different_devices_of_makes_that_the_catalogue_knows() -> None:
    phones = make_phones(500, domain="pbx.test", seed=5, catalogue=CATALOGUE)
    assert (phones[0].aor, phones[499].aor) == ("sip:1000@pbx.test", "sip:1499@pbx.test")
    assert len({phone.mac for phone in phones}) == len({phone.instance for phone in phones}) == 500
    assert all(phone.mac.startswith("02") for phone in phones)
    makes = {make.id for phone in phones if (make := CATALOGUE.match(phone.user_agent))}
    assert all(CATALOGUE.match(phone.user_agent) for phone in phones)
    assert len(makes) > 10
    assert {phone.site for phone in phones} == {f"site-{n}" for n in range(1, 11)}


def test_a_user_agent_that_names_a_mac_names_that_of_the_phone() -> None:
    phones = make_phones(500, domain="pbx.test", seed=5, catalogue=CATALOGUE)
    thomson = next(phone for phone in phones if phone.user_agent.startswith("THOMSON"))
    digits = thomson.mac.upper()
    assert thomson.user_agent == "THOMSON ST2030 hw5 fw2.74 " + "-".join(digits[n : n + 2] for n in range(0, 12, 2))


def test_the_password_is_not_shown() -> None:
    assert "secret" not in repr(SimulatedPhone("1000", "pbx", password="secret"))


@pytest.mark.parametrize(
    ("row", "aor"),
    [
        ({"aor": "sip:1000@pbx.test"}, "sip:1000@pbx.test"),
        ({"aor": "1000@pbx.test:5080"}, "sip:1000@pbx.test:5080"),
        ({"aor": "1000", "contact": "sip:77@192.0.2.1:5070"}, "sip:1000@192.0.2.1"),
        ({"contact": '"Desk" <sip:77@[2001:db8::1]:5070;x=y>;expires=60'}, "sip:77@[2001:db8::1]:5070"),
    ],
)
def test_a_listed_phone_gets_a_double_with_its_address(row: dict[str, str], aor: str) -> None:
    assert SimulatedPhone.from_row(row).aor == aor


@pytest.mark.parametrize("row", [{}, {"aor": "1000"}, {"aor": "sip:a b@c"}, {"contact": "<sip:1000@pbx"}])
def test_a_row_without_a_usable_address_is_refused(row: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"aor"):
        SimulatedPhone.from_row(row)


def test_a_double_keeps_tags_and_parameters_and_drops_what_belongs_to_the_real_phone() -> None:
    row = {"aor": "sip:1000@pbx", "path": "<sip:proxy>", "call_id": "x", "tags": "vip", "DBID_RANDOM_DELAY": "5"}
    written = SimulatedPhone.from_row(row).row("sip:1000@127.0.0.1:5060")
    assert written["tags"] == "vip"
    assert written["DBID_RANDOM_DELAY"] == "5"
    assert written["contact"] == "sip:1000@127.0.0.1:5060"
    assert not {"path", "call_id"} & set(written)


def test_the_written_list_is_read_back_by_resyncctl_and_is_private(tmp_path: Path) -> None:
    phones = make_phones(50, domain="pbx.test", seed=5, catalogue=CATALOGUE)
    phones.append(replace(phones[0], user="2000", other=(("tags", "vip, night"),)))
    path = tmp_path / "phones.csv"
    assert write_csv(path, (phone.row(f"sip:{phone.user}@127.0.0.1:5060") for phone in phones)) == 51
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    read = list(CsvPhones(path).rows())
    assert [phone.aor for _, _, phone in read] == [phone.aor for phone in phones]
    assert [phone.auth_password for _, _, phone in read] == [phone.password for phone in phones]
    assert read[50][2].tags == "vip, night"
    assert read[0][2].tags == ""


def test_a_list_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        write_csv(tmp_path / "nowhere" / "phones.csv", [])
