# SPDX-License-Identifier: Apache-2.0
import pytest
from memplace.api.server import server_address


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("10.0.0.1", "6443", "https://10.0.0.1:6443"),
        ("10.0.0.1", None, "https://10.0.0.1:443"),
        ("10.0.0.1", "", "https://10.0.0.1:443"),
        ("fd00::1", "443", "https://[fd00::1]:443"),
        ("api.example.com", "443", "https://api.example.com:443"),
        ("", "443", None),
        (None, "443", None),
        ("10.0.0.1", "tcp://10.0.0.1:443", None),
        ("10.0.0.1", "²", None),
    ],
)
def test_the_environment_of_a_pod(host, port, url):
    names = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    env = {name: value for name, value in names.items() if value is not None}
    address = server_address(env)
    assert (address and address.url) == url
    assert address is None or address.host == host
