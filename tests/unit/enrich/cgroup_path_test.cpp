// SPDX-License-Identifier: Apache-2.0
#include "agent/enrich/enrich.h"

#include <gtest/gtest.h>

namespace bulkhead::agent {
namespace {

const std::string id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const std::string other_id = std::string(64, 'a');

struct Case {
    std::string path, unit, container;
    std::vector<std::string> units;
};

std::vector<Case> cases()
{
    using List = std::vector<std::string>;
    return {
        {"", "", "", {}},
        {"/", "", "", {}},
        {"//", "", "", {}},
        {"/init.scope", "init.scope", "", {"init.scope"}},
        {"/system.slice", "", "", {"system.slice"}},
        {"/system.slice/nginx.service", "nginx.service", "", {"system.slice", "nginx.service"}},
        {"system.slice/nginx.service/", "nginx.service", "", {"system.slice", "nginx.service"}},
        {"/system.slice/nginx.service/workers", "nginx.service", "", {"system.slice", "nginx.service"}},
        {"/system.slice/system-getty.slice/getty@tty1.service",
         "getty@tty1.service",
         "",
         {"system.slice", "system-getty.slice", "getty@tty1.service"}},
        {"/system.slice/dev-disk-by\\x2duuid.swap",
         "dev-disk-by\\x2duuid.swap",
         "",
         {"system.slice", "dev-disk-by\\x2duuid.swap"}},
        {"/system.slice/_memory.service", "memory.service", "", {"system.slice", "memory.service"}},
        {"/user.slice/user-1000.slice/session-2.scope",
         "session-2.scope",
         "",
         {"user.slice", "user-1000.slice", "session-2.scope"}},
        {"/user.slice/user-1000.slice/user@1000.service/app.slice/sync.service",
         "sync.service",
         "",
         {"user.slice", "user-1000.slice", "user@1000.service", "app.slice", "sync.service"}},
        {"/docker/" + id, "", id, {}},
        {"/docker/" + id + "/init", "", id, {}},
        {"/system.slice/docker-" + id + ".scope", "docker-" + id + ".scope", id,
         List{"system.slice", "docker-" + id + ".scope"}},
        {"/kubepods.slice/kubepods-burstable.slice/cri-containerd-" + id + ".scope", "cri-containerd-" + id + ".scope",
         id, List{"kubepods.slice", "kubepods-burstable.slice", "cri-containerd-" + id + ".scope"}},
        {"/system.slice/containerd.service/kubepods-besteffort-pod1.slice:cri-containerd:" + id, "containerd.service",
         id, List{"system.slice", "containerd.service"}},
        {"/kubepods/besteffort/pod6d5e/" + id, "", id, {}},
        {"/kubepods.slice/crio-" + id + ".scope/container", "crio-" + id + ".scope", id,
         List{"kubepods.slice", "crio-" + id + ".scope"}},
        {"/kubepods.slice/crio-conmon-" + id + ".scope", "crio-conmon-" + id + ".scope", "",
         List{"kubepods.slice", "crio-conmon-" + id + ".scope"}},
        {"/machine.slice/libpod-" + id + ".scope/container", "libpod-" + id + ".scope", id,
         List{"machine.slice", "libpod-" + id + ".scope"}},
        {"/machine.slice/libpod-conmon-" + id + ".scope", "libpod-conmon-" + id + ".scope", "",
         List{"machine.slice", "libpod-conmon-" + id + ".scope"}},
        {"/libpod_parent/libpod-" + id, "", id, {}},
        {"/docker/" + id + "/docker/" + other_id, "", other_id, {}},
        {"/docker/" + id.substr(1), "", "", {}},         // 63 digits
        {"/docker/0" + id, "", "", {}},                  // 65
        {"/docker/" + std::string(64, 'A'), "", "", {}}, // ids are lower case
        {"/.service", "", "", {}},
        {"/service", "", "", {}},
        {"/a b.service", "", "", {}},
        {"/nginx.service.d", "", "", {}},
        {"/multi-user.target", "", "", {}},
        {"/../../etc", "", "", {}},
    };
}

TEST(CgroupPath, NamesUnitAndContainer)
{
    for (const auto& c : cases()) {
        const auto names = parse_cgroup_path(c.path);
        EXPECT_EQ(names.unit, c.unit) << c.path;
        EXPECT_EQ(names.container, c.container) << c.path;
        EXPECT_EQ(names.units, c.units) << c.path;
    }
}

TEST(CgroupPath, WhatAUserOrAContainerNamesIsNotTheAdministrators)
{
    const std::string user = "/user.slice/user-1000.slice/user@1000.service";
    EXPECT_EQ(administered_part(user + "/app.slice/postgresql.service"), user);
    EXPECT_EQ(administered_part(user), user);
    EXPECT_EQ(administered_part("/docker/" + id + "/system.slice/postgresql.service"), "/docker/" + id);
    EXPECT_EQ(administered_part("/system.slice/postgresql.service/child"), "/system.slice/postgresql.service/child");
    EXPECT_EQ(administered_part("/system.slice/user@.slice/x.service"), "/system.slice/user@.slice/x.service");
    EXPECT_EQ(administered_part("/machine.slice/machine-c1.scope/payload/db.service"),
              "/machine.slice/machine-c1.scope");
    EXPECT_EQ(administered_part("/machine.slice/systemd-nspawn@c2.service/payload/db.service"),
              "/machine.slice/systemd-nspawn@c2.service");
    EXPECT_EQ(administered_part("/lxc.payload.c3/system.slice/db.service"), "/lxc.payload.c3");
    EXPECT_EQ(administered_part("/lxc.payload.c3"), "/lxc.payload.c3");
    EXPECT_EQ(administered_part("/system.slice/machine-id.service/x"), "/system.slice/machine-id.service/x");
    EXPECT_EQ(administered_part("/lxc.monitor.c3/x"), "/lxc.monitor.c3/x");
    EXPECT_EQ(administered_part(""), "");
}

} // namespace
} // namespace bulkhead::agent
