// SPDX-License-Identifier: Apache-2.0
#include "common/policy/parse.h"

#include <gtest/gtest.h>

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace bulkhead::policy {
namespace {

class PolicyFiles : public testing::Test {
protected:
    PolicyFiles()
    {
        std::string pattern = testing::TempDir() + "policy-XXXXXX";
        EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
        folder = pattern;
    }
    ~PolicyFiles() override { std::filesystem::remove_all(folder); }

    std::string write(const std::string& name, const std::string& text) const
    {
        std::ofstream(folder / name) << text;
        return folder / name;
    }
    static Error error_of(const std::vector<std::string>& paths)
    {
        const auto files = read_policy_files(paths);
        EXPECT_FALSE(files.has_value());
        return files ? Error{} : files.error();
    }

    std::filesystem::path folder;
};

TEST_F(PolicyFiles, AFolderIsReadInNameOrder)
{
    write("b.yaml", "b");
    write("a.yml", "a");
    write("c.txt", "no");
    write(".hidden.yaml", "no");
    std::filesystem::create_directory(folder / "sub");
    const auto files = read_policy_files(std::vector{folder.string()});
    ASSERT_TRUE(files.has_value());
    ASSERT_EQ(files->size(), 2U);
    EXPECT_EQ((*files)[0].name, folder / "a.yml");
    EXPECT_EQ((*files)[0].text, "a");
    EXPECT_EQ((*files)[1].name, folder / "b.yaml");
}

TEST_F(PolicyFiles, AFolderWithoutPoliciesIsAnError)
{
    write("readme.txt", "x");
    const auto error = error_of({folder});
    EXPECT_EQ(error.kind, ErrorKind::invalid);
    EXPECT_NE(error.message.find("no policy files in this folder"), std::string::npos);
}

TEST_F(PolicyFiles, EveryUnreadablePathIsNamed)
{
    const auto error = error_of({folder / "gone.yaml", folder / "lost.yaml", write("good.yaml", "x")});
    EXPECT_EQ(error.kind, ErrorKind::invalid);
    EXPECT_NE(error.message.find("gone.yaml: No such file or directory"), std::string::npos);
    EXPECT_NE(error.message.find("lost.yaml: No such file or directory"), std::string::npos);
}

TEST_F(PolicyFiles, AFifoDoesNotHoldTheReader)
{
    ASSERT_EQ(::mkfifo((folder / "pipe.yaml").c_str(), 0600), 0);
    EXPECT_NE(error_of({folder}).message.find("is not a regular file"), std::string::npos);
}

TEST_F(PolicyFiles, AFolderNamedLikeAPolicyIsAnError)
{
    std::filesystem::create_directory(folder / "x.yaml");
    EXPECT_NE(error_of({folder}).message.find("is a folder"), std::string::npos);
}

TEST_F(PolicyFiles, AFileWithoutPermissionIsAnError)
{
    if (::geteuid() == 0)
        GTEST_SKIP() << "root may read everything";
    const auto path = write("secret.yaml", "x");
    ASSERT_EQ(::chmod(path.c_str(), 0), 0);
    EXPECT_NE(error_of({path}).message.find("Permission denied"), std::string::npos);
}

TEST_F(PolicyFiles, AHugeFileIsNotTakenIn)
{
    const auto path = write("huge.yaml", "");
    std::filesystem::resize_file(path, max_file_bytes + 1);
    EXPECT_NE(error_of({path}).message.find("is larger than"), std::string::npos);
    EXPECT_NE(error_of({"/dev/zero"}).message.find("is not a regular file"), std::string::npos);
}

TEST_F(PolicyFiles, NoPathsAreAnError)
{
    EXPECT_EQ(error_of({}).kind, ErrorKind::invalid);
}

} // namespace
} // namespace bulkhead::policy
