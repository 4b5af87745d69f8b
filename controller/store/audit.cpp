// SPDX-License-Identifier: Apache-2.0
#include "controller/store/audit.h"

namespace bulkhead::controller {

std::int64_t unix_micros(const Clock& clock)
{
    return std::chrono::duration_cast<std::chrono::microseconds>(clock.wall().time_since_epoch()).count();
}

v1::Record make_audit(const Clock& clock, Act act)
{
    v1::Record record;
    record.set_time_us(unix_micros(clock));
    record.set_kind(v1::Record::AUDIT);
    record.set_agent_id(controller_agent_id);
    record.set_host(controller_agent_id);
    record.set_count(1);
    auto& audit = *record.mutable_audit();
    audit.set_actor(std::move(act.actor));
    audit.set_action(std::move(act.action));
    audit.set_object(std::move(act.object));
    audit.set_message(std::move(act.message));
    return record;
}

} // namespace bulkhead::controller
