#include "daemon/calibration/link_schedule.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace latentd {
namespace {

constexpr absl::Duration kFirstBackoff = absl::Seconds(5);
constexpr absl::Duration kLongestBackoff = absl::Minutes(5);

}  // namespace

std::vector<NodeId> LinkSchedule::SetPeers(std::vector<LinkPeer> peers, absl::Time now) {
  std::erase_if(peers, [this](const LinkPeer& peer) { return peer.id == self_; });
  std::sort(peers.begin(), peers.end(),
            [](const LinkPeer& a, const LinkPeer& b) { return a.id < b.id; });
  const auto next = std::find_if(peers.begin(), peers.end(),
                                 [this](const LinkPeer& peer) { return peer.id > self_; });
  std::rotate(peers.begin(), next, peers.end());
  if (peers.size() > most_peers_) peers.resize(most_peers_);

  std::map<NodeId, Entry> before = std::exchange(entries_, {});
  for (LinkPeer& peer : peers) {
    const NodeId id = peer.id;
    const auto known = before.find(id);
    Entry entry{.peer = peer, .due = now, .backoff = kFirstBackoff};
    if (known != before.end()) {
      const LinkPeer& was = known->second.peer;
      // One whose life was not known has the one that it had.
      const bool same_life = was.generation == peer.generation || was.generation == Generation{} ||
                             peer.generation == Generation{};
      if (same_life && was.control_address == peer.control_address) {
        if (peer.generation == Generation{}) peer.generation = was.generation;
        entry = {.peer = peer, .due = known->second.due, .backoff = known->second.backoff};
      }
      before.erase(known);
    }
    entries_.emplace(id, std::move(entry));
  }
  std::vector<NodeId> gone;
  for (const auto& [id, entry] : before) gone.push_back(id);
  return gone;
}

void LinkSchedule::MakeAllDue(absl::Time now) {
  for (auto& [id, entry] : entries_) entry.due = std::min(entry.due, now);
}

std::optional<LinkPeer> LinkSchedule::Due(absl::Time now) const {
  const auto turn = [this](const Entry& entry) {
    return std::tuple(entry.due, entry.peer.id < self_, entry.peer.id);
  };
  const Entry* first = nullptr;
  for (const auto& [id, entry] : entries_) {
    if (entry.due > now || !entry.peer.answers) continue;
    if (first == nullptr || turn(entry) < turn(*first)) first = &entry;
  }
  return first == nullptr ? std::nullopt : std::optional(first->peer);
}

void LinkSchedule::Timed(const NodeId& peer, absl::Time now) {
  const auto found = entries_.find(peer);
  if (found == entries_.end()) return;
  found->second.due = now + period_;
  found->second.backoff = kFirstBackoff;
}

void LinkSchedule::Failed(const NodeId& peer, absl::Time now) {
  const auto found = entries_.find(peer);
  if (found == entries_.end()) return;
  found->second.due = now + found->second.backoff;
  found->second.backoff = std::min(2 * found->second.backoff, kLongestBackoff);
}

}  // namespace latentd
