"""Shell completion for bash."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import Resyncctl


def completions(resyncctl: Resyncctl, line: str) -> set[str]:
    """Return what bash would be offered behind a line."""
    words = len(line.split()) - (not line.endswith(" "))
    return set(
        resyncctl.shell(f"COMP_WORDS='{line}' COMP_CWORD={words} _RESYNCCTL_COMPLETE=complete_bash $R").out.split()
    )


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("resyncctl ro", {"rollout"}),
        ("resyncctl rollout re", {"results", "resume", "retry"}),
        ("resyncctl rollout --data-dir /somewhere re", {"results", "resume", "retry"}),
        ("resyncctl run --ba", {"--batch-size", "--batch-interval"}),
        ("resyncctl run --action ", {"resync", "reboot"}),
        ("resyncctl rollout results --format n", {"ndjson"}),
    ],
)
def test_bash_completes(resyncctl: Resyncctl, line: str, offered: set[str]) -> None:
    assert completions(resyncctl, line) == offered


def test_completion_is_installed_into_the_home_of_the_user(resyncctl: Resyncctl, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    resyncctl.environment |= {"HOME": str(home), "SHELL": "/bin/bash"}
    assert resyncctl.shell("bash --norc -c '$R --install-completion; true'").status == 0
    script = home / ".bash_completions" / "resyncctl.sh"
    assert str(script) in (home / ".bashrc").read_text()
    loaded = resyncctl.shell("source ~/.bashrc; complete -p resyncctl")
    assert "_resyncctl_completion" in loaded.out
    shown = resyncctl.shell("bash --norc -c '$R --show-completion; true'")
    assert shown.out.strip() == script.read_text().strip()
