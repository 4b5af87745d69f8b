// SPDX-License-Identifier: Apache-2.0
#include "common/policy/findings.h"

#include "common/policy/parse.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

namespace bulkhead::policy {
namespace {

constexpr std::size_t longest_word = 64; // of what we try to guess
constexpr std::size_t most_candidates = 2000;
constexpr std::size_t longest_list = 16;

// Optimal string alignment: a swap of neighbours counts as one slip.
std::size_t distance(std::string_view a, std::string_view b)
{
    std::vector<std::size_t> before(b.size() + 1), row(b.size() + 1), next(b.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 1; i <= a.size(); ++i) {
        next[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            next[j] = std::min({row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] == b[j - 1] ? 0U : 1U)});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                next[j] = std::min(next[j], before[j - 2] + 1);
        }
        std::swap(before, row);
        std::swap(row, next);
    }
    return row[b.size()];
}

} // namespace

void Findings::add(SourceRef where, std::string message, std::string mend)
{
    auto& count = counts_[where.file.get()];
    if (count < max_findings)
        found_.push_back({std::move(where), std::move(message), std::move(mend)});
    else if (count == max_findings)
        found_.push_back(
            {{where.file, 0, 0}, fmt::format("more than {} errors; the rest is not listed", max_findings), {}});
    ++count;
}

bool Findings::listens(const SourceRef& where) const
{
    const auto count = counts_.find(where.file.get());
    return count == counts_.end() || count->second < max_findings;
}

std::vector<Diagnostic> Findings::sorted(const std::vector<std::shared_ptr<const std::string>>& files) &&
{
    std::unordered_map<const std::string*, std::size_t> order;
    for (std::size_t i = 0; i < files.size(); ++i)
        order.emplace(files[i].get(), i);
    const auto key = [&order](const Diagnostic& d) {
        const auto file = order.find(d.where.file.get());
        const bool last = d.where.line == 0 && d.message.starts_with("more than");
        return std::tuple(file == order.end() ? 0 : file->second, last, d.where.line, d.where.column);
    };
    std::stable_sort(found_.begin(), found_.end(),
                     [&key](const Diagnostic& a, const Diagnostic& b) { return key(a) < key(b); });
    return std::move(found_);
}

std::string suggest(std::string_view written, const std::vector<std::string_view>& candidates)
{
    std::size_t best = std::max<std::size_t>(written.size() / 3, 1) + 1; // more slips than this are another word
    std::string_view meant;
    for (std::size_t i = 0; i < std::min(candidates.size(), most_candidates); ++i) {
        const auto candidate = candidates[i];
        const auto gap =
            candidate.size() > written.size() ? candidate.size() - written.size() : written.size() - candidate.size();
        if (gap >= best || written.size() > longest_word || candidate.size() > longest_word)
            continue;
        if (const auto slips = distance(written, candidate); slips < best) {
            best = slips;
            meant = candidate;
        }
    }
    if (!meant.empty())
        return fmt::format("did you mean '{}'?", meant);
    if (candidates.empty() || candidates.size() > longest_list)
        return {};
    return fmt::format("one of: {}", fmt::join(candidates, ", "));
}

std::string shown(std::string_view text)
{
    constexpr std::size_t most = 80;
    std::string result(text.substr(0, most));
    std::replace_if(
        result.begin(), result.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
    while (text.size() > most && !result.empty() && (static_cast<unsigned char>(result.back()) & 0x80U) != 0)
        result.pop_back(); // not into the middle of a character
    return text.size() > most ? result + "..." : result;
}

} // namespace bulkhead::policy
