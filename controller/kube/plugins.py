"""Access where credentials need code: the official `kubernetes` package runs exec plugins and follows service accounts.

Importing this module imports that package; controller.kube.access does so only when it must.
"""

from __future__ import annotations

import asyncio
import ssl

from kubernetes import config
from kubernetes.client import Configuration
from kubernetes.config.config_exception import ConfigException

from controller.base.errors import UserError
from controller.kube.access import Access, Authorization


def load_access(paths: str | None) -> Access:
    """Access of these kubeconfigs (colon-separated), or of the pod's service account where `paths` is None."""
    settings = Configuration()
    try:
        if paths is None:
            # The package has no types here.
            config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        else:
            config.load_kube_config(config_file=paths, client_configuration=settings, persist_config=False)  # type: ignore[no-untyped-call]
    except ConfigException as error:
        raise UserError("BadKubeconfig", f"{paths or 'service account'}: {error}") from error
    return Access(
        server=settings.host.rstrip("/"),
        tls=_tls(settings) if settings.host.startswith("https://") else None,
        tls_server_name=settings.tls_server_name,
        proxy=settings.proxy,
        authorization=_authorization(settings),
    )


def _tls(settings: Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.ssl_ca_cert)
    if not settings.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.cert_file:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    return context


def _authorization(settings: Configuration) -> Authorization | None:
    # "BearerToken" is the name under which the package keeps whatever it puts into the Authorization header.
    if "BearerToken" not in settings.api_key:
        return None

    async def authorization() -> str | None:
        # The package looks at the expiry by itself and may run the plugin again, which blocks.
        header: str | None = await asyncio.to_thread(settings.get_api_key_with_prefix, "BearerToken")
        return header

    return authorization
