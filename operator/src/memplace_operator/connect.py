# SPDX-License-Identifier: Apache-2.0
"""The API server for our own threads, found as kopf finds it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

import kopf
from memplace_kube.client import LoginFailed, Server, in_cluster

from memplace_operator.kubeapi import login

USER_AGENT = "memplace-operator"


def connect(settings: kopf.OperatorSettings, env: Mapping[str, str] = os.environ) -> Server:
    """Return the API server: by the pod's ServiceAccount, else by kubeconfig.

    Raises:
        memplace_operator.kubeapi.LoginFailed: There is neither.
    """
    try:
        return in_cluster(env, user_agent=USER_AGENT)
    except LoginFailed:
        info = login(settings)
    url = urlsplit(info.server)
    is_plain = url.scheme == "http"
    scheme, _, bearer = info.as_http_headers().get("Authorization", "").partition(" ")
    return Server(
        host=url.hostname or "localhost",
        port=url.port or (80 if is_plain else 443),
        context=None if is_plain else info.as_ssl_context(),
        bearer=bearer if scheme == "Bearer" else "",
        namespace=info.default_namespace or "default",
        user_agent=USER_AGENT,
    )
