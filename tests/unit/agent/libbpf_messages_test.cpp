// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/libbpf_messages.h"

#include <gtest/gtest.h>

namespace bulkhead::agent {
namespace {

constexpr const char* refused = "libbpf: prog 'bh_connect4': BPF program load failed: Permission denied";
// What libbpf makes of the verifier's log, in one message.
constexpr const char* with_log = "libbpf: prog 'bh_connect4': -- BEGIN PROG LOAD LOG --\n"
                                 "0: R1=ctx(off=0,imm=0) R10=fp0\n"
                                 "; return ctx->user_port;\n"
                                 "R2 !read_ok\n"
                                 "verification time 41 usec\n"
                                 "stack depth 0\n"
                                 "processed 3 insns (limit 1000000) max_states_per_insn 0 total_states 0\n"
                                 "-- END PROG LOAD LOG --";

TEST(LibbpfMessages, TheReasonIsTheLastWordBeforeTheStatistics)
{
    EXPECT_EQ(reason_in_verifier_log(with_log), "R2 !read_ok");
}

TEST(LibbpfMessages, NoReasonWhereThereIsNone)
{
    EXPECT_EQ(reason_in_verifier_log(""), "");
    EXPECT_EQ(reason_in_verifier_log(refused), "");
    EXPECT_EQ(reason_in_verifier_log("-- BEGIN PROG LOAD LOG --"), "");
    EXPECT_EQ(reason_in_verifier_log("-- BEGIN PROG LOAD LOG --\nprocessed 3 insns\n\n-- END PROG LOAD LOG --"), "");
    EXPECT_EQ(reason_in_verifier_log("-- BEGIN PROG LOAD LOG --\nit was cut off he"), "it was cut off he");
}

TEST(LibbpfMessages, AnErrorNamesTheProgramAndTheReasonInOneLine)
{
    LibbpfWarnings warnings;
    warnings.add(refused);
    warnings.add(with_log);
    warnings.add("libbpf: failed to load object 'datapath'");
    EXPECT_EQ(warnings.summary(), std::string(refused) + "; the verifier says: R2 !read_ok");
}

TEST(LibbpfMessages, AnErrorWithoutAVerifierIsWhatCameFirst)
{
    LibbpfWarnings warnings;
    EXPECT_EQ(warnings.summary(), "");
    warnings.add("libbpf: map 'bh_control': failed to create: Operation not permitted(-1)\nmore");
    warnings.add("libbpf: failed to load object 'datapath'");
    EXPECT_EQ(warnings.summary(), "libbpf: map 'bh_control': failed to create: Operation not permitted(-1)");
}

TEST(LibbpfMessages, AReasonOfAnyLengthIsCut)
{
    LibbpfWarnings warnings;
    warnings.add("-- BEGIN PROG LOAD LOG --\n" + std::string(1 << 20, 'x'));
    EXPECT_LT(warnings.summary().size(), 1000U);
}

} // namespace
} // namespace bulkhead::agent
