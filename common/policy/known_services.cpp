// SPDX-License-Identifier: Apache-2.0
#include "common/policy/known_services.h"

#include <algorithm>

namespace bulkhead::policy {
namespace {

ServiceAtom tcp(std::uint16_t port)
{
    return {Protocol::tcp, {port, port}};
}

ServiceAtom udp(std::uint16_t port)
{
    return {Protocol::udp, {port, port}};
}

const std::vector<KnownService>& table()
{
    // clang-format off
    static const std::vector<KnownService> services{
        {"amqp", {tcp(5672)}},
        {"amqps", {tcp(5671)}},
        {"bgp", {tcp(179)}},
        {"bootpc", {udp(68)}},
        {"bootps", {udp(67)}},
        {"cassandra", {tcp(9042)}},
        {"clickhouse", {tcp(8123), tcp(9000)}},
        {"consul", {tcp(8500)}},
        {"dhcp", {udp(67)}},
        {"dhcpv6-client", {udp(546)}},
        {"dhcpv6-server", {udp(547)}},
        {"dns", {tcp(53), udp(53)}},
        {"domain", {tcp(53), udp(53)}},
        {"domain-s", {tcp(853)}},
        {"elasticsearch", {tcp(9200)}},
        {"epmap", {tcp(135)}},
        {"etcd-client", {tcp(2379)}},
        {"etcd-server", {tcp(2380)}},
        {"ftp", {tcp(21)}},
        {"git", {tcp(9418)}},
        {"http", {tcp(80)}},
        {"http-alt", {tcp(8080)}},
        {"https", {tcp(443)}},
        {"https-alt", {tcp(8443)}},
        {"imap", {tcp(143)}},
        {"imaps", {tcp(993)}},
        {"kafka", {tcp(9092)}},
        {"kerberos", {tcp(88), udp(88)}},
        {"kerberos-adm", {tcp(749)}},
        {"kpasswd", {tcp(464), udp(464)}},
        {"ldap", {tcp(389), udp(389)}},
        {"ldaps", {tcp(636)}},
        {"mdns", {udp(5353)}},
        {"memcached", {tcp(11211)}},
        {"microsoft-ds", {tcp(445)}},
        {"mongodb", {tcp(27017)}},
        {"mqtt", {tcp(1883)}},
        {"mqtts", {tcp(8883)}},
        {"ms-sql-s", {tcp(1433)}},
        {"ms-wbt-server", {tcp(3389), udp(3389)}},
        {"mssql", {tcp(1433)}},
        {"mysql", {tcp(3306)}},
        {"netbios-dgm", {udp(138)}},
        {"netbios-ns", {udp(137)}},
        {"netbios-ssn", {tcp(139)}},
        {"nfs", {tcp(2049), udp(2049)}},
        {"nntp", {tcp(119)}},
        {"node-exporter", {tcp(9100)}},
        {"ntp", {udp(123)}},
        {"openvpn", {udp(1194)}},
        {"oracle", {tcp(1521)}},
        {"pop3", {tcp(110)}},
        {"pop3s", {tcp(995)}},
        {"postgres", {tcp(5432)}},
        {"postgresql", {tcp(5432)}},
        {"prometheus", {tcp(9090)}},
        {"radius", {udp(1812)}},
        {"radius-acct", {udp(1813)}},
        {"rdp", {tcp(3389), udp(3389)}},
        {"redis", {tcp(6379)}},
        {"rpcbind", {tcp(111), udp(111)}},
        {"rsync", {tcp(873)}},
        {"sip", {tcp(5060), udp(5060)}},
        {"smb", {tcp(445)}},
        {"smtp", {tcp(25)}},
        {"snmp", {udp(161)}},
        {"snmptrap", {udp(162)}},
        {"ssh", {tcp(22)}},
        {"stun", {tcp(3478), udp(3478)}},
        {"submission", {tcp(587)}},
        {"submissions", {tcp(465)}},
        {"sunrpc", {tcp(111), udp(111)}},
        {"svn", {tcp(3690)}},
        {"syslog", {udp(514)}},
        {"syslog-tls", {tcp(6514)}},
        {"telnet", {tcp(23)}},
        {"tftp", {udp(69)}},
        {"vault", {tcp(8200)}},
        {"vnc", {tcp(5900)}},
        {"whois", {tcp(43)}},
        {"winrm", {tcp(5985), tcp(5986)}},
        {"wireguard", {udp(51820)}},
        {"xmpp-client", {tcp(5222)}},
        {"zookeeper", {tcp(2181)}},
    };
    // clang-format on
    return services;
}

} // namespace

std::span<const KnownService> known_services()
{
    return table();
}

const KnownService* find_known_service(std::string_view name)
{
    const auto& services = table();
    const auto found =
        std::lower_bound(services.begin(), services.end(), name,
                         [](const KnownService& service, std::string_view n) { return service.name < n; });
    return found != services.end() && found->name == name ? &*found : nullptr;
}

} // namespace bulkhead::policy
