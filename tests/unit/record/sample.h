// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/net/ip.h"
#include "common/wire/wire.h"
#include "record.pb.h"

#include <string>

namespace bulkhead::record
{

inline std::string ip_bytes(const char* text)
{
    return wire::to_wire(IpAddress::parse(text).value());
}

// A refused attempt of web-1 on PostgreSQL at db-1, with every field that such a record has.
inline v1::Record denied_attempt()
{
    v1::Record record;
    record.set_time_us(1'795'225'439'000'123);
    record.set_kind(v1::Record::VIOLATION);
    record.set_event(v1::Record::DENY);
    record.set_flow_id(std::string("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\xff", 16));
    record.set_host("web-1");
    record.set_agent_id("a-1");
    record.set_boot_id("b-1");
    record.set_seq(42);
    record.set_direction(v1::Record::OUTBOUND);
    record.set_verdict(v1::Record::DENIED);
    record.set_reason(v1::Record::DEFAULT);
    record.set_shadow_verdict(v1::Record::DENIED);
    record.set_rule("shop-db/default-inbound");
    record.set_shadow_rule("shop-db/default-inbound");
    record.set_policy_version(3);
    auto& src = *record.mutable_src();
    src.set_ip(ip_bytes("10.0.0.1"));
    src.set_port(40000);
    src.set_workload("web-1");
    src.add_segments("shop-web");
    (*src.mutable_labels())["role"] = "web";
    (*src.mutable_labels())["app"] = "shop";
    src.set_identity(4);
    auto& dst = *record.mutable_dst();
    dst.set_ip(ip_bytes("2001:db8::7"));
    dst.set_port(5432);
    dst.set_workload("db-1");
    dst.add_segments("shop-db");
    dst.add_segments("prod");
    record.set_protocol(6);
    auto& process = *record.mutable_process();
    process.set_pid(77);
    process.set_ppid(1);
    process.set_exe("/usr/bin/psql");
    process.set_comm("psql");
    process.set_uid(0);
    process.set_unit("shop-web.service");
    record.set_count(1);
    record.set_community_id("1:abc=");
    return record;
}

} // namespace bulkhead::record
