"""The kind of network to which an address of a target belongs: a name may not lead from one kind to another."""

from __future__ import annotations

import pytest

from receiver.following.addresses import AddressKind, Misled, kind_of, of_kind

KINDS = {
    AddressKind.LOOPBACK: ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0"],
    AddressKind.LINK: ["169.254.169.254", "fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254", "224.0.0.1", "ff02::1"],
    AddressKind.PRIVATE: ["10.0.0.1", "172.16.9.9", "192.168.1.1", "100.64.0.1", "fc00::1", "::ffff:10.0.0.1"],
    AddressKind.PUBLIC: ["93.184.216.34", "2606:4700::1111", "::ffff:93.184.216.34"],
}

CASES = [(address, kind) for kind, addresses in KINDS.items() for address in addresses]


@pytest.mark.parametrize(("address", "kind"), CASES)
def test_an_address_has_the_kind_of_its_network_however_it_is_written(address, kind):
    assert kind_of(address) is kind


def test_a_name_without_a_known_kind_takes_that_of_its_first_address_and_only_those():
    assert of_kind("erp.example", ["10.0.0.1", "93.184.216.34", "10.0.0.2"], "") == (
        ["10.0.0.1", "10.0.0.2"],
        AddressKind.PRIVATE,
    )


@pytest.mark.parametrize("before", [kind for kind in AddressKind if kind is not AddressKind.LINK])
def test_a_name_that_now_leads_to_the_metadata_of_the_cloud_is_refused_with_what_to_do(before):
    with pytest.raises(Misled, match=f"this network segment .169.254.169.254., but earlier to {before}: mend its DNS"):
        of_kind("erp.example", ["169.254.169.254"], before.value)
