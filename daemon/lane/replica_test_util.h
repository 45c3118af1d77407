// Tables in which each slot is somewhere of its own, and a sink that holds what it is given. For
// tests.
#ifndef LATENTD_DAEMON_LANE_REPLICA_TEST_UTIL_H_
#define LATENTD_DAEMON_LANE_REPLICA_TEST_UTIL_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "daemon/lane/lane_test_client.h"
#include "daemon/lane/replica_sink.h"
#include "routing/routing_table.h"

namespace latentd {

// Of node-a, node-b and node-c, by number.
inline constexpr NodeIndex kA = 0, kB = 1, kC = 2;

struct Place {
  std::vector<NodeIndex> holders = {kA};
  std::vector<NodeIndex> joining{};
  uint64_t placed = 3;
  uint64_t generation = 1;
};

// Slots that `places` does not name are at `elsewhere`.
inline std::shared_ptr<const RoutingTable> PlacedTable(uint64_t epoch,
                                                       const std::map<uint32_t, Place>& places,
                                                       const Place& elsewhere = {}) {
  RoutingTableParts parts{.epoch = Epoch{epoch}};
  for (const std::string id : {"node-a", "node-b", "node-c"}) {
    parts.nodes.push_back({.id = id, .control_address = id + ":7400", .capacity_bytes = 1});
  }
  const auto add = [&](uint32_t first, uint32_t end, const Place& place) {
    if (first == end) return;
    parts.ranges.push_back({.first_slot = first,
                            .slots = end - first,
                            .generation = Generation{place.generation},
                            .holders = place.holders,
                            .joining = place.joining,
                            .placed = Epoch{place.placed}});
  };
  uint32_t next = 0;
  for (const auto& [slot, place] : places) {
    add(next, slot, elsewhere);
    add(slot, slot + 1, place);
    next = slot + 1;
  }
  add(next, kSlotCount, elsewhere);
  return ValueOrDie(RoutingTable::Create(std::move(parts)));
}

// Keeps writes until the test ends them. A lane waits for that when it stops, so End comes before.
class HoldingSink : public ReplicaSink {
 public:
  struct Held {
    ReplicaWrite write;
    std::function<void(absl::Status)> done;
  };

  void Forward(ReplicaWrite write, std::function<void(absl::Status)> done) override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!ended_) {
        held_.push_back({std::move(write), std::move(done)});
        return;
      }
    }
    done(absl::UnavailableError("the test is over"));
  }
  void End() {
    std::vector<Held> left;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      ended_ = true;
      left.swap(held_);
    }
    for (const Held& held : left) held.done(absl::UnavailableError("the test is over"));
  }
  void EndBy(absl::Time deadline) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    end_by_ = deadline;
  }
  void OnQuarantined(uint32_t lane, const ChunkId& chunk, uint32_t tokens,
                     uint64_t checksum) override {
    (void)lane, (void)tokens, (void)checksum;
    const std::lock_guard<std::mutex> lock(mutex_);
    quarantined_.push_back(chunk);
  }

  size_t held() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return held_.size();
  }
  absl::Time end_by() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return end_by_;
  }
  std::vector<ChunkId> quarantined() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return quarantined_;
  }
  // Waits for the next write, in their order.
  Held Take(const std::function<void()>& turn = {}) {
    if (!WaitFor([this] { return held() > 0; }, turn)) throw std::runtime_error("no write");
    const std::lock_guard<std::mutex> lock(mutex_);
    Held first = std::move(held_.front());
    held_.erase(held_.begin());
    return first;
  }

 private:
  mutable std::mutex mutex_;
  bool ended_ = false;
  absl::Time end_by_ = absl::InfiniteFuture();
  std::vector<Held> held_;
  std::vector<ChunkId> quarantined_;
};

// Ends a sink before the lane that uses it: declared after both.
struct SinkEnd {
  explicit SinkEnd(HoldingSink& sink) : sink(sink) {}
  ~SinkEnd() { sink.End(); }
  HoldingSink& sink;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_LANE_REPLICA_TEST_UTIL_H_
