#include "daemon/membership/table_store.h"

#include <xxhash.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "routing/table_delta.h"
#include "routing/table_snapshot.h"

namespace latentd {
namespace {

constexpr uint64_t kKnownFeatures = 0;

// etcd takes 1.5 MiB at once. A part is a transaction of its own, but for the last one's, which has
// the head too.
constexpr size_t kPartBytes = size_t{768} << 10;
// Deltas may pile up to as many bytes as the snapshot has, or this if that is little.
constexpr uint64_t kLeastDeltaBytes = uint64_t{64} << 10;
constexpr uint64_t kMostDeltas = 100;

const EtcdEntry* Find(const EtcdEntries& entries, const std::string& key) {
  const auto found = entries.find(key);
  return found == entries.end() ? nullptr : &found->second;
}

uint64_t Hash(std::string_view bytes, uint64_t seed = 0) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

absl::Status Lost(const std::string& what) {
  return absl::DataLossError(absl::StrCat("the routing table in etcd: ", what));
}

absl::StatusOr<StoredTable> ReadSnapshot(const EtcdEntries& entries, const ClusterKeys& keys,
                                         const v1::TableHead& head) {
  std::string packed;
  for (uint32_t part = 0; part < head.snapshot_parts(); ++part) {
    const std::string key = keys.SnapshotPart(Epoch{head.snapshot_epoch()}, part);
    const EtcdEntry* entry = Find(entries, key);
    if (entry == nullptr) return Lost(absl::StrCat(key, " is missing"));
    packed += entry->value;
  }
  if (Hash(packed) != head.snapshot_hash()) return Lost("the snapshot is damaged");
  absl::StatusOr<TablePtr> table = UnpackTable(packed);
  if (!table.ok()) return Lost(std::string(table.status().message()));
  return StoredTable{*std::move(table), head.snapshot_hash()};
}

// Up to the head's epoch. `from` may be unrelated: then the chain does not come out.
absl::StatusOr<StoredTable> ApplyDeltas(const EtcdEntries& entries, const ClusterKeys& keys,
                                        const v1::TableHead& head, StoredTable from) {
  for (uint64_t epoch = ToInt(from.epoch()) + 1; epoch <= head.epoch(); ++epoch) {
    const std::string key = keys.Delta(Epoch{epoch});
    const EtcdEntry* entry = Find(entries, key);
    if (entry == nullptr) return Lost(absl::StrCat(key, " is missing"));
    v1::RoutingTable delta;
    if (!delta.ParseFromString(entry->value)) return Lost(absl::StrCat(key, " is damaged"));
    absl::StatusOr<TablePtr> table = ApplyDelta(*from.table, delta);
    if (!table.ok()) return Lost(absl::StrCat(key, ": ", table.status().message()));
    from = {*std::move(table), Hash(entry->value, from.chain)};
  }
  if (from.chain != head.chain()) return Lost("the deltas do not belong to the snapshot");
  return from;
}

// Of epochs other than `kept`.
std::set<std::string> OtherSnapshots(const EtcdEntries& entries, const ClusterKeys& keys,
                                     Epoch kept) {
  const std::string prefix = keys.Snapshots();
  std::set<std::string> snapshots;
  for (auto entry = entries.lower_bound(prefix);
       entry != entries.end() && absl::StartsWith(entry->first, prefix); ++entry) {
    const size_t end = entry->first.find('/', prefix.size());
    if (end != std::string::npos) snapshots.insert(entry->first.substr(0, end + 1));
  }
  snapshots.erase(keys.Snapshot(kept));
  return snapshots;
}

bool WorthASnapshot(const v1::TableHead& head, size_t delta_bytes) {
  return head.delta_bytes() + delta_bytes > std::max(head.snapshot_bytes(), kLeastDeltaBytes) ||
         head.epoch() - head.snapshot_epoch() >= kMostDeltas;
}

}  // namespace

absl::StatusOr<v1::TableHead> ReadHead(const EtcdEntries& entries, const ClusterKeys& keys) {
  const EtcdEntry* entry = Find(entries, keys.Head());
  if (entry == nullptr) return absl::NotFoundError("no routing table in etcd yet");
  v1::TableHead head;
  if (!head.ParseFromString(entry->value)) return Lost("the head is damaged");
  if (const uint64_t unknown = head.required_features() & ~kKnownFeatures; unknown != 0) {
    return absl::UnimplementedError(
        absl::StrFormat("the routing table in etcd, written by node '%s', needs features 0x%x that "
                        "this version does not have",
                        head.written_by(), unknown));
  }
  return head;
}

absl::StatusOr<StoredTable> ReadTable(const EtcdEntries& entries, const ClusterKeys& keys,
                                      const StoredTable& known) {
  const absl::StatusOr<v1::TableHead> head = ReadHead(entries, keys);
  if (!head.ok()) return head.status();
  if (known.table != nullptr) {
    if (head->epoch() == ToInt(known.epoch()) && head->chain() == known.chain) return known;
    if (head->epoch() <= ToInt(known.epoch())) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the routing table in etcd is of epoch ", head->epoch(), ", and that of epoch ",
          ToInt(known.epoch()), " has been seen: etcd has lost or gone back on what it held"));
    }
    if (ToInt(known.epoch()) >= head->snapshot_epoch()) {
      absl::StatusOr<StoredTable> table = ApplyDeltas(entries, keys, *head, known);
      if (table.ok()) return table;
    }
  }
  absl::StatusOr<StoredTable> snapshot = ReadSnapshot(entries, keys, *head);
  if (!snapshot.ok()) return snapshot;
  return ApplyDeltas(entries, keys, *head, *std::move(snapshot));
}

TableWrite WriteTable(const EtcdEntries& entries, const ClusterKeys& keys,
                      const StoredTable& before, TablePtr next, v1::TableHead head,
                      const std::vector<EtcdGuard>& guards) {
  EtcdTransaction last;
  last.guards = guards;
  const EtcdEntry* old_entry = Find(entries, keys.Head());
  last.guards.push_back({keys.Head(), EtcdGuard::Field::kModRevision,
                         old_entry == nullptr ? 0 : old_entry->mod_revision});
  head.set_epoch(ToInt(next->epoch()));

  TableWrite write;
  v1::TableHead old;
  const bool follows = old_entry != nullptr && old.ParseFromString(old_entry->value) &&
                       before.table != nullptr && old.epoch() == ToInt(before.epoch()) &&
                       old.chain() == before.chain &&
                       ToInt(next->epoch()) == ToInt(before.epoch()) + 1;
  std::optional<v1::RoutingTable> delta;
  if (follows) delta = MakeDelta(*before.table, *next);
  std::string value = delta.has_value() ? delta->SerializeAsString() : std::string();
  if (delta.has_value() && !WorthASnapshot(old, value.size())) {
    head.set_snapshot_epoch(old.snapshot_epoch());
    head.set_snapshot_parts(old.snapshot_parts());
    head.set_snapshot_bytes(old.snapshot_bytes());
    head.set_snapshot_hash(old.snapshot_hash());
    head.set_delta_bytes(old.delta_bytes() + value.size());
    head.set_chain(Hash(value, before.chain));
    last.writes.push_back({.key = keys.Delta(next->epoch()), .value = std::move(value)});
  } else {
    const std::string packed = PackTable(*next);
    const size_t parts = (packed.size() + kPartBytes - 1) / kPartBytes;
    head.set_snapshot_epoch(ToInt(next->epoch()));
    head.set_snapshot_parts(static_cast<uint32_t>(parts));
    head.set_snapshot_bytes(packed.size());
    head.set_snapshot_hash(Hash(packed));
    head.set_delta_bytes(0);
    head.set_chain(head.snapshot_hash());
    for (size_t part = 0; part < parts; ++part) {
      EtcdWrite put{.key = keys.SnapshotPart(next->epoch(), static_cast<uint32_t>(part)),
                    .value = packed.substr(part * kPartBytes, kPartBytes)};
      if (part + 1 == parts) {
        last.writes.push_back(std::move(put));
      } else {
        write.transactions.push_back({last.guards, {std::move(put)}});
      }
    }
    last.writes.push_back({.key = keys.Deltas(), .erase = true, .erase_prefix = true});
    for (const std::string& prefix : OtherSnapshots(entries, keys, next->epoch())) {
      last.writes.push_back({.key = prefix, .erase = true, .erase_prefix = true});
    }
  }
  last.writes.push_back({.key = keys.Head(), .value = head.SerializeAsString()});
  write.table = {std::move(next), head.chain()};
  write.transactions.push_back(std::move(last));
  return write;
}

}  // namespace latentd
