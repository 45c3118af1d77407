// A lane without a thread, a device or UCX, for tests of what stands around lanes. It remembers
// what it was told and answers at once, or not at all while it hangs.
//
// Any thread.
#ifndef LATENTD_DAEMON_TESTING_FAKE_LANE_H_
#define LATENTD_DAEMON_TESTING_FAKE_LANE_H_

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "daemon/lane/lane.h"

namespace latentd {

class FakeLane : public Lane {
 public:
  explicit FakeLane(LaneOptions options)
      : options_(std::move(options)), address_("worker-" + std::to_string(options_.index)) {}

  // What tests do.
  void Hang(bool hangs) {
    Locked([&] { hangs_ = hangs; });
  }
  void SetChunks(std::vector<ChunkInfo> chunks) {
    Locked([&] { chunks_ = std::move(chunks); });
  }
  void FailStop(absl::Status status) {
    Locked([&] { stop_status_ = std::move(status); });
  }
  LaneStats& mutable_stats() { return stats_; }
  // As if the client's connection to this lane had failed.
  void LoseSession(SessionToken token) {
    const auto callback = Locked([&] {
      sessions_.erase(token);
      return lost_callback_;
    });
    if (callback) callback(token, absl::UnavailableError("connection reset"));
  }

  // What tests see.
  std::vector<SessionGrant> sessions() const {
    return Locked([&] {
      std::vector<SessionGrant> all;
      for (const auto& [token, grant] : sessions_) all.push_back(grant);
      return all;
    });
  }
  std::vector<std::string> removal_reasons() const {
    return Locked([&] { return reasons_; });
  }
  std::shared_ptr<const RoutingTable> table() const {
    return Locked([&] { return table_; });
  }
  bool admitting() const {
    return Locked([&] { return admitting_; });
  }
  bool started() const {
    return Locked([&] { return started_; });
  }
  bool stopped() const {
    return Locked([&] { return stopped_; });
  }

  // Lane.
  void SetSessionLostCallback(std::function<void(SessionToken, absl::Status)> callback) override {
    Locked([&] { lost_callback_ = std::move(callback); });
  }
  void Start() override {
    Locked([&] { started_ = true; });
  }
  absl::Status Stop(absl::Time) override {
    return Locked([&] {
      stopped_ = true;
      return stop_status_;
    });
  }
  const std::string& worker_address() const override { return address_; }
  const LaneOptions& options() const override { return options_; }
  std::string DescribeBackend() const override { return "fake"; }
  std::string Transports() const override { return "fake/lo"; }
  void AddSession(SessionGrant grant, std::function<void()> done) override {
    const bool answer = Locked([&] {
      sessions_[grant.token] = grant;
      return !hangs_;
    });
    if (answer) done();
  }
  void RemoveSession(SessionToken token, std::string reason) override {
    Locked([&] {
      sessions_.erase(token);
      reasons_.push_back(std::move(reason));
    });
  }
  void SetTable(std::shared_ptr<const RoutingTable> table) override {
    Locked([&] { table_ = std::move(table); });
  }
  void SetAdmitting(bool admitting) override {
    Locked([&] { admitting_ = admitting; });
  }
  void ListChunks(std::string hex_prefix, uint32_t limit,
                  std::function<void(ChunkListing)> done) override {
    ChunkListing listing;
    const bool answer = Locked([&] {
      for (const ChunkInfo& chunk : chunks_) {
        if (!absl::StartsWith(ToString(chunk.id), hex_prefix)) continue;
        if (listing.chunks.size() == limit) {
          listing.more = true;
          break;
        }
        listing.chunks.push_back(chunk);
      }
      if (hex_prefix.empty()) listing.total = chunks_.size();
      return !hangs_;
    });
    if (answer) done(std::move(listing));
  }
  const LaneStats& stats() const override { return stats_; }
  absl::Time last_turn() const override {
    const bool hangs = Locked([&] { return hangs_; });
    return hangs ? absl::UnixEpoch() : absl::FromChrono(std::chrono::system_clock::now());
  }

 private:
  template <typename Body>
  std::invoke_result_t<Body> Locked(Body body) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return body();
  }

  const LaneOptions options_;
  const std::string address_;
  LaneStats stats_;
  mutable std::mutex mutex_;
  std::map<SessionToken, SessionGrant> sessions_;
  std::vector<std::string> reasons_;
  std::vector<ChunkInfo> chunks_;
  std::function<void(SessionToken, absl::Status)> lost_callback_;
  std::shared_ptr<const RoutingTable> table_;
  absl::Status stop_status_;
  bool hangs_ = false;
  bool admitting_ = true;
  bool started_ = false;
  bool stopped_ = false;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_TESTING_FAKE_LANE_H_
