// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/fixture.h"

#include <cstdlib>
#include <filesystem>

namespace bulkhead::test {
namespace {

// A guard that has not begun yet.
class GuardOpening : public BpfTest {
protected:
    [[nodiscard]] agent::DatapathOptions options(const std::string& instance = "test") const override
    {
        auto options = BpfTest::options(instance);
        options.guard.attach = guards_;
        options.guard.force_clsact = true;
        return options;
    }
    bool guards_ = false;
};

TEST_F(GuardOpening, ThatFailsPutsNothingInForceAndLeavesNothing)
{
    datapath_.reset();
    ASSERT_TRUE(agent::detach_datapath(options()));
    guards_ = true;
    ip(world_->wire.guarded, "link add zz type veth peer name zy");
    guarded([] {                                                  // which has no side for what leaves
        ASSERT_EQ(std::system("tc qdisc add dev zz ingress"), 0); // NOLINT(cert-env33-c): our own words
    });
    Result<std::unique_ptr<agent::Datapath>> begun;
    run_in(world_->wire.guarded, world_->elsewhere, [&] { begun = agent::begin_datapath(options()); });
    ASSERT_TRUE(begun) << begun.error().message;
    const auto realised =
        test::realise(**begun, TestPolicy().default_action(inbound, refuse).default_action(outbound, refuse));
    ASSERT_FALSE(realised);
    EXPECT_NE(realised.error().message.find("zz"), std::string::npos) << realised.error().message;
    EXPECT_EQ((*begun)->control().active_slot, BH_SLOT_NONE);
    EXPECT_FALSE((*begun)->finish_opening());
    begun->reset();
    EXPECT_FALSE(std::filesystem::exists(agent::pin_folder(options())));
    guarded([] { EXPECT_NE(std::system("tc filter show dev bh0 ingress | grep -q bh_guard"), 0); }); // NOLINT
}

} // namespace
} // namespace bulkhead::test
