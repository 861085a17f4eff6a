"""Certificates for tests, made by the openssl command."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def openssl(*arguments: str | Path) -> None:
    """Run it, or skip the test where it is not installed."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def self_signed(folder: Path, name: str) -> tuple[Path, Path]:
    """Files of a new certificate for 127.0.0.1, which is its own authority, and of its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    subject = ("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1")
    files: tuple[str | Path, ...] = ("-keyout", key, "-out", certificate)
    openssl("req", "-x509", *curve, "-noenc", "-days", "2", *subject, *files)
    return certificate, key


def encrypted(key: Path, password: str) -> Path:
    """The same key behind a password."""
    path = key.with_suffix(".encrypted")
    openssl("pkcs8", "-topk8", "-in", key, "-out", path, "-passout", f"pass:{password}")
    return path
