"""Which network addresses are this machine's own, and which belong to the open internet."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NOT_PUBLIC = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments (RFC 6890); a cloud provider's metadata service is here
    IPv4Network("192.88.99.0/24"),  # relays of tunnels, given up (RFC 7526)
    IPv4Network("168.63.129.16/32"),  # the same in every virtual network of a cloud provider: machines' secrets
)


def is_loopback(host: str) -> bool:
    """Whether a host name or address reaches this machine alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_inside(host: str) -> bool:
    """Whether a host name or address can be seen to be not public, without resolving it."""
    try:
        return not is_public(host)
    except ValueError:
        return is_loopback(host)


def is_public(address: str) -> bool:
    """Whether an address belongs to the open internet.

    Private, loopback, link-local (and with them the metadata services of clouds), shared (RFC 6598), multicast and
    reserved addresses do not, nor do IPv6 addresses that carry such an IPv4 address or lead through a tunnel.
    """
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is None:
            return ip in _GLOBAL_UNICAST and ip.is_global and ip.sixtofour is None
        ip = ip.ipv4_mapped
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _NOT_PUBLIC)
