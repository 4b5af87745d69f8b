# SPDX-License-Identifier: Apache-2.0
"""Policies and rule sets of a stated size: one rule of them lets the benchmark's traffic pass."""

import ipaddress


def addresses(count):
    """Addresses that are not those of the benchmark's ends (10.88.0.0/24)."""
    first = int(ipaddress.ip_address("10.100.0.0"))
    return [str(ipaddress.ip_address(first + i)) for i in range(count)]


def bulkhead_policy(host, rules, peers, partner, port) -> str:
    """Half of the rules inbound, half outbound, each about peers of its own; everything else is denied."""
    lines = ["version: 1", "segment: bench", f"selector: {{host: {host}}}", "mode: enforce", "inbound: deny",
             "outbound: deny", "allow:",
             f"  - {{id: bench-in, from: {{cidr: [{partner}]}}, service: [tcp/{port}, udp/{port}]}}",
             f"  - {{id: bench-out, to: {{cidr: [{partner}]}}, service: [tcp/{port}, udp/{port}]}}"]
    book, each = addresses(peers), max(1, peers // rules)
    for i in range(rules - 2):
        mine = book[i * each % len(book):][:each]
        side, protocol = ("from", "to")[i % 2], ("tcp", "udp")[i // 2 % 2]
        lines.append(f"  - {{id: r{i}, {side}: {{cidr: [{', '.join(mine)}]}}, service: {protocol}/{1000 + i % 4000}}}")
    return "\n".join(lines) + "\n"


def nft_stateful_set(entries, partner, port) -> str:
    """What a careful administrator writes: known connections first, then one set for each direction and protocol."""
    fill = [f"{address} . {1000 + i % 4000}" for i, address in enumerate(addresses(entries - 1))]
    elements = ", ".join(fill + [f"{partner} . {port}"])
    return f"""table inet bench {{
  set peers {{ type ipv4_addr . inet_service; elements = {{ {elements} }} }}
  chain inbound {{
    type filter hook input priority 0; policy drop;
    ct state established,related accept
    ip saddr . tcp dport @peers accept
    ip saddr . udp dport @peers accept
  }}
  chain outbound {{
    type filter hook output priority 0; policy drop;
    ct state established,related accept
    ip daddr . tcp dport @peers accept
    ip daddr . udp dport @peers accept
  }}
}}
"""


def nft_stateless_set(entries, partner, port) -> str:
    """No memory of connections: replies are let pass by their source port."""
    text = nft_stateful_set(entries, partner, port)
    text = text.replace("    ct state established,related accept\n", "")
    for direction, side in (("inbound", "saddr"), ("outbound", "daddr")):
        text = text.replace(f"    ip {side} . udp dport @peers accept\n",
                            f"    ip {side} . udp dport @peers accept\n    ip {side} . tcp sport @peers accept\n"
                            f"    ip {side} . udp sport @peers accept\n")
    return text


def nft_linear(rules, partner, port) -> str:
    """A rule a line; the one that matches is the last."""
    def chain(name, hook, side):
        fill = "\n".join(f"    ip {side} {address} tcp dport {1000 + i % 4000} accept"
                         for i, address in enumerate(addresses(rules - 2)))
        return (f"  chain {name} {{\n    type filter hook {hook} priority 0; policy drop;\n"
                f"    ct state established,related accept\n{fill}\n    ip {side} {partner} tcp dport {port} accept\n"
                f"    ip {side} {partner} udp dport {port} accept\n  }}\n")
    return ("table inet bench {\n" + chain("inbound", "input", "saddr") + chain("outbound", "output", "daddr") + "}\n")
