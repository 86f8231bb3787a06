"""`@pytest.mark.needs("sipp", …)`: skip by name when a program is missing, fail instead where CI=true."""

from __future__ import annotations

import importlib.util
import os
import shutil

import pytest

PROGRAMS = {
    "baresip": "Debian package baresip-core",
    "curl": "Debian package curl",
    "dnsmasq": "Debian package dnsmasq-base",
    "kamailio": "Debian package kamailio",
    "lua5.4": "Debian package lua5.4",
    "nginx": "Debian package nginx-light",
    "openssl": "Debian package openssl",
    "php": "Debian package php-cli",
    "prometheus": "Debian package prometheus",
    "promtool": "Debian package prometheus",
    "redis-server": "Debian package redis-server",
    "sipp": "Debian package sip-tester",
    "sngrep": "Debian package sngrep",
    "systemd-analyze": "Debian package systemd",
    "tshark": "Debian package tshark",
}
MODULES = {"aiosip": "PyPI package aiosip", "pjsua2": "PyPI package pjsua2-python"}


def missing(program: str) -> str | None:
    """Say that a program or Python module is not installed, with the package that has it; None when it is there."""
    found = importlib.util.find_spec(program) if program in MODULES else shutil.which(program)
    package = {**PROGRAMS, **MODULES}.get(program)
    return f"{program} is not installed" + (f" ({package})" if package else "") if found is None else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail a test whose `needs` are not met."""
    programs = [program for marker in item.iter_markers("needs") for program in marker.args]
    absent = [text for program in programs if (text := missing(program)) is not None]
    if not absent:
        return
    if os.environ.get("CI") == "true":
        pytest.fail("; ".join(absent) + ". CI must have it: add it to the image.", pytrace=False)
    pytest.skip("; ".join(absent))
