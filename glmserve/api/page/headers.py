"""Headers of the page: what its documents may do, and how long its files may be kept."""

from __future__ import annotations

_POLICY = (
    "default-src 'self'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "object-src 'none'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
)
"""Nothing of another host, no inline script or style, no form, no frame around it."""
_NO_MARKUP = ("require-trusted-types-for 'script'", "trusted-types 'none'")
"""The browser refuses to read any text as markup or as code: no innerHTML, no eval."""

SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
"""Of documents and files."""

REVALIDATE = {"Cache-Control": "no-cache"}
"""A browser asks each time whether the document is still the same."""
KEEP = {"Cache-Control": "public, max-age=31536000, immutable"}
"""A file's URL names its version, so the file never changes."""


def content_policy(*, renders_markup: bool = False) -> dict[str, str]:
    """The header Content-Security-Policy.

    Args:
        renders_markup: the document contains a library that writes markup from text by itself.
    """
    parts = _POLICY if renders_markup else (*_POLICY, *_NO_MARKUP)
    return {"Content-Security-Policy": "; ".join(parts)}
