#include "daemon/membership/trouble_log.h"

#include "absl/strings/ascii.h"

namespace latentd {
namespace {

constexpr char kEtcd[] = "etcd";

std::string WithoutNumbers(std::string text) {
  std::erase_if(text, absl::ascii_isdigit);
  return text;
}

}  // namespace

std::vector<TroubleLine> TroubleLog::Observe(const std::string& etcd,
                                             const std::vector<std::string>& troubles,
                                             absl::Time now) {
  std::map<std::string, std::string> there;
  for (const std::string& trouble : troubles) {
    if (trouble != etcd) there.emplace(WithoutNumbers(trouble), trouble);
  }
  if (!etcd.empty()) there[kEtcd] = etcd;

  std::vector<TroubleLine> lines;
  for (auto& [key, text] : there) {
    const auto [known, is_new] = known_.try_emplace(key);
    Known& trouble = known->second;
    trouble.seen = now;
    if (is_new) trouble.began = now;
    const bool remind = key == kEtcd && now - trouble.told_at >= kRemindAfter &&
                        WithoutNumbers(text) != WithoutNumbers(trouble.told);
    if (!is_new && !remind) continue;
    trouble.told = text;
    trouble.told_at = now;
    lines.push_back({.trouble = text});
  }
  for (auto known = known_.begin(); known != known_.end();) {
    const Known& trouble = known->second;
    if (now - trouble.seen < kGoneAfter) {
      ++known;
      continue;
    }
    lines.push_back(
        {.over = true, .trouble = trouble.told, .lasted = trouble.seen - trouble.began});
    known = known_.erase(known);
  }
  return lines;
}

}  // namespace latentd
