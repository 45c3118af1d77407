// For tests and benchmarks: a membership that does as it is told.
#ifndef LATENTD_DAEMON_REPLICATION_TEST_MEMBERSHIP_H_
#define LATENTD_DAEMON_REPLICATION_TEST_MEMBERSHIP_H_

#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/membership/membership.h"

namespace latentd {

// What a node's membership and whoever plays the authority share. Any thread.
struct TestMember {
  std::mutex mutex;
  NodeInfo self;           // once it has started
  TableCallback on_table;  // called by Deliver's thread
  TablePtr table;
  std::map<Slot, Epoch> claims;
  std::vector<MissedWrite> missed;  // by others
  bool draining = false;

  void Deliver(const TablePtr& next) {
    TableCallback callback;
    {
      const std::lock_guard<std::mutex> lock(mutex);
      table = next;
      callback = on_table;
    }
    callback(next);
  }

  // Every slot that it joins, as it is placed in the newest table.
  bool ClaimedAll() {
    const std::lock_guard<std::mutex> lock(mutex);
    if (table == nullptr) return true;
    const auto index = table->FindNode(self.id);
    if (!index.has_value()) return true;
    for (uint32_t s = 0; s < kSlotCount; ++s) {
      const Slot slot{static_cast<uint16_t>(s)};
      if (!table->Joins(*index, slot)) continue;
      const auto claim = claims.find(slot);
      if (claim == claims.end() || claim->second != table->PlacedOf(slot)) return false;
    }
    return true;
  }
};

class TestMembership final : public Membership {
 public:
  explicit TestMembership(std::shared_ptr<TestMember> shared) : shared_(std::move(shared)) {}

  std::string_view name() const override { return "test"; }
  absl::Status Start(NodeInfo self, TableCallback on_table) override {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    shared_->self = std::move(self);
    shared_->on_table = std::move(on_table);
    return absl::OkStatus();
  }
  void Stop() override {}
  TablePtr table() const override {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    return shared_->table;
  }
  std::vector<Member> ListNodes() const override {
    std::vector<Member> members;
    if (const TablePtr now = table()) {
      for (const NodeInfo& node : now->nodes()) {
        members.push_back({.node = node, .heard_from = true, .version = ""});
      }
    }
    return members;
  }
  void SetDraining(bool draining) override {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    shared_->draining = draining;
  }
  bool hands_over() const override { return true; }
  void Claim(std::vector<SlotClaim> claims) override {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    for (const SlotClaim& claim : claims) shared_->claims[claim.slot] = claim.placed;
  }
  void ReportMissed(MissedWrite missed) override {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    shared_->missed.push_back(std::move(missed));
  }

 private:
  const std::shared_ptr<TestMember> shared_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_REPLICATION_TEST_MEMBERSHIP_H_
