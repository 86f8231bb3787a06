"""What `config check` says of files that the settings name: whether they can be read here, and captures written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from resyncctl.config.checking import unusable
from resyncctl.config.reading import survey


def said(folder: Path, *lines: str) -> list[str]:
    """Return what is said of a file with these lines, without the folder."""
    file = folder / "c.toml"
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    found = survey(file=file, environ={}, told={})
    assert found.settings is not None, found.problems
    return [str(one).replace(f"{folder}/", "") for one in unusable(found.settings, found.origins)]


def test_each_file_that_cannot_be_read_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert said(
        tmp_path,
        'sip_tls_ca = "ca.pem"',
        'sip_tls_cert = "folder"',
        'sip_tls_key = "key.pem"',
        "[sources.hq]",
        'from_domain = "pbx.example.com"',
        'file = "hq.csv"',
    ) == [
        "c.toml:1: sip_tls_ca 'ca.pem' does not exist",
        "c.toml:2: sip_tls_cert 'folder' is a directory",
        "c.toml:3: sip_tls_key 'key.pem' does not exist",
        "c.toml:6: sources.hq.file 'hq.csv' does not exist",
    ]


def test_files_that_can_be_read_are_good(tmp_path: Path) -> None:
    for name in ("ca.pem", "both.pem", "hq.csv"):
        (tmp_path / name).touch()
    lines = ('sip_tls_ca = "ca.pem"', 'sip_tls_cert = "both.pem"', 'sources.hq = {file = "hq.csv", from_domain = "h"}')
    assert said(tmp_path, *lines) == []


def test_a_capture_file_needs_a_directory_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "old.pcap").touch()
    assert said(tmp_path, 'trace = ["new.pcap", "old.pcap", "hep:nowhere.invalid", "folder", "gone/t.pcap"]') == [
        "c.toml:1: trace 'folder' is a directory",
        "c.toml:1: trace 'gone/t.pcap' is in no directory that exists",
    ]


def test_a_capture_file_that_may_not_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    assert said(tmp_path, 'trace = ["t.pcap"]') == ["c.toml:1: trace 't.pcap' may not be written by this user"]
