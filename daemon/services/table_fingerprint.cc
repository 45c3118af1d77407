#include "daemon/services/table_fingerprint.h"

#include <xxhash.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace latentd {

uint64_t TableFingerprint(const RoutingTable& table) {
  // As text: lengths before names keep "ab" + "c" apart from "a" + "bc".
  std::string text = absl::StrCat("epoch ", ToInt(table.epoch()), "\n");
  std::vector<std::string> nodes;
  for (const NodeInfo& node : table.nodes()) {
    nodes.push_back(absl::StrCat(node.id.size(), " ", node.id, " ", node.control_address, "\n"));
  }
  std::sort(nodes.begin(), nodes.end());
  for (const std::string& node : nodes) text += node;
  for (const SlotRange& range : table.ToParts().ranges) {
    absl::StrAppend(&text, range.slots, " ", ToInt(range.generation));
    for (const NodeIndex holder : range.holders) {
      const NodeId& id = table.node(holder).id;
      absl::StrAppend(&text, " ", id.size(), " ", id);
    }
    text += "\n";
  }
  const uint64_t hash = XXH3_64bits(text.data(), text.size());
  return hash == 0 ? 1 : hash;
}

uint64_t TableFingerprints::Of(const std::shared_ptr<const RoutingTable>& table) {
  if (table == nullptr) return 0;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (table != table_) {
    fingerprint_ = TableFingerprint(*table);
    table_ = table;
  }
  return fingerprint_;
}

}  // namespace latentd
