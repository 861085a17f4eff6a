"""TLS: reads and checks certificates before the model loads."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from glmserve.errors import OptionError

PASSWORD_VARIABLE = "GLMSERVE_SSL_KEYFILE_PASSWORD"


def server_context(
    certfile: Path | None, keyfile: Path | None, ca_certs: Path | None
) -> ssl.SSLContext | None:
    """The TLS context of the server, or None without `certfile`.

    Args:
        certfile: PEM file, the server's own certificate first.
        keyfile: its private key; None: in `certfile`.
        ca_certs: clients must present a certificate signed by one of these; None: no check.

    Raises:
        OptionError: a file is missing or invalid, or the files do not belong together.
    """
    if certfile is None:
        for option, value in (("--ssl-keyfile", keyfile), ("--ssl-ca-certs", ca_certs)):
            if value is not None:
                raise OptionError(f"{option} goes with --ssl-certfile")
        return None
    _check_readable("--ssl-certfile", certfile)
    if keyfile is not None:
        _check_readable("--ssl-keyfile", keyfile)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load_certificate(context, certfile, keyfile or certfile)
    if ca_certs is not None:
        _check_readable("--ssl-ca-certs", ca_certs)
        _require_client_certificates(context, ca_certs)
    return context


def _check_readable(option: str, path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise OptionError(f"{option} {path}: {reason.lower()}") from None


def _load_certificate(context: ssl.SSLContext, certfile: Path, keyfile: Path) -> None:
    # Without a password OpenSSL would ask for one on the terminal.
    password = os.environ.get(PASSWORD_VARIABLE, "")
    try:
        context.load_cert_chain(certfile, keyfile, password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            what = f"the private key in {keyfile} does not belong to the certificate"
        elif "ENCRYPTED" in keyfile.read_text(errors="replace"):
            what = f"{keyfile} is encrypted, and {PASSWORD_VARIABLE} does not open it"
        else:
            what = f"no certificate with its private key in PEM format there or in {keyfile}"
        raise OptionError(f"--ssl-certfile {certfile}: {what}") from None


def _require_client_certificates(context: ssl.SSLContext, ca_certs: Path) -> None:
    try:
        context.load_verify_locations(ca_certs)
    except ssl.SSLError:
        raise OptionError(f"--ssl-ca-certs {ca_certs}: no certificates in PEM format") from None
    context.verify_mode = ssl.CERT_REQUIRED
