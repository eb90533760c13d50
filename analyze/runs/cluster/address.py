"""What a user may write for a cluster: ``local``, ``auto`` or the address of its head; no Ray."""

from __future__ import annotations

from urllib.parse import urlsplit

from analyze.errors import InputError

LOCAL, AUTO = "local", "auto"
FORMS = "local, auto, or HOST:PORT of a cluster's head"
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def check_address(where: str) -> None:
    """Refuse what names no cluster.

    Raises:
        InputError: it is none of the forms.
    """
    if where.startswith("ray://"):
        raise InputError(
            "a run cannot use a cluster by Ray's client",
            found=f"--cluster {where}",
            expected=f"{FORMS}; the run is one of the cluster's own processes",
            fix="on a machine of the cluster: analyze run RUN --cluster auto",
        )
    if where in (LOCAL, AUTO):
        return
    try:
        parts(where)
    except ValueError as error:
        raise InputError(
            "this is no address of a cluster",
            found=f"--cluster {where!r}",
            expected=FORMS,
            fix="--cluster auto on a machine of the cluster, or --cluster local",
        ) from error


def parts(address: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``.

    Raises:
        ValueError: it has another form.
    """
    found = urlsplit(f"//{address}")
    if not found.hostname or not found.port or found.netloc != address or "@" in address:
        raise ValueError(address)
    return found.hostname, found.port
