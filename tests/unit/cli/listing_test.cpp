// SPDX-License-Identifier: Apache-2.0
#include "cli/output/listing.h"

#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <sstream>

namespace bulkhead::cli {
namespace {

TEST(Listing, ColumnsLineUpAndEmptyCellsShow)
{
    Listing listing;
    listing.columns = {"NAME", "WHAT"};
    listing.rows = {{"ü", "one"}, {"long-name", ""}};
    std::ostringstream out;
    print(listing, Format::table, out);
    EXPECT_EQ(out.str(), "NAME       WHAT\nü          one\nlong-name  -\n");
}

TEST(Listing, YamlKeepsTypes)
{
    const Json document{{"text", "123"},   {"word", "yes"},  {"null", "null"},       {"number", 123},
                        {"truth", true},   {"empty", ""},    {"date", "2026-11-21"}, {"plain", "shop-db"},
                        {"colon", "a: b"}, {"none", nullptr}};
    std::ostringstream out;
    print_document(document, Format::yaml, out);
    const auto yaml = YAML::Load(out.str());
    EXPECT_EQ(yaml["text"].Tag(), "!") << "quoted: a string";
    EXPECT_EQ(yaml["word"].Tag(), "!");
    EXPECT_EQ(yaml["null"].Tag(), "!");
    EXPECT_EQ(yaml["date"].Tag(), "!");
    EXPECT_EQ(yaml["number"].as<int>(), 123);
    EXPECT_TRUE(yaml["truth"].as<bool>());
    EXPECT_TRUE(yaml["none"].IsNull());
    EXPECT_EQ(yaml["plain"].as<std::string>(), "shop-db");
    EXPECT_EQ(yaml["colon"].as<std::string>(), "a: b");
    EXPECT_EQ(yaml["empty"].as<std::string>(), "");
}

TEST(Printable, ControlsGoAndTextStays)
{
    EXPECT_EQ(printable("naïve ✓"), "naïve ✓");
    EXPECT_EQ(printable("a\x1b[2Jb\nc\xc2\x9b"
                        "d\xe2\x80\xae"),
              "a?[2Jb?c?d?");
    EXPECT_EQ(printable("a\xff\x9b"), "a\xef\xbf\xbd\xef\xbf\xbd");
    EXPECT_EQ(printable_text("a\n\tb\x1b"), "a\n\tb?");
}

TEST(Text, AgesAndSizes)
{
    EXPECT_EQ(age_text(0, 5), "never");
    EXPECT_EQ(age_text(1, 60'000'001), "60s ago");
    EXPECT_EQ(age_text(1, 3'600'000'001), "60m ago");
    EXPECT_EQ(age_text(1, 86'400'000'001), "24h ago");
    EXPECT_EQ(age_text(1, 864'000'000'001), "10d ago");
    EXPECT_EQ(age_text(10'000'000, 1), "0s ago") << "a clock that is behind";
    EXPECT_EQ(bytes_text(1023), "1023 B");
    EXPECT_EQ(bytes_text(1536), "1.5 KiB");
    EXPECT_EQ(bytes_text(~0ULL), "16777216.0 TiB");
}

} // namespace
} // namespace bulkhead::cli
