// `LinkSchedule` says which link is to be timed next: one that never was, or whose peer has another
// life, at once; one that could not be, after a while that grows; the others once in a period, the
// oldest first, and of equals those that follow this node in the order of ids, so that not all nodes
// begin with the same peer. One that does not answer keeps what was timed. Of more peers than it may have it keeps those that follow this node in the order of
// ids, so that all nodes together time links all over the cluster.
//
// Pure: times come in. Any one thread.
#ifndef LATENTD_DAEMON_CALIBRATION_LINK_SCHEDULE_H_
#define LATENTD_DAEMON_CALIBRATION_LINK_SCHEDULE_H_

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "routing/ids.h"

namespace latentd {

struct LinkPeer {
  NodeId id;
  std::string control_address;
  Generation generation{};  // 0: not known
  bool answers = true;      // false: it is not timed just now

  friend bool operator==(const LinkPeer&, const LinkPeer&) = default;
};

class LinkSchedule {
 public:
  // `period`: infinite for links that are timed once in each life of a peer.
  LinkSchedule(NodeId self, absl::Duration period, size_t most_peers)
      : self_(std::move(self)), period_(period), most_peers_(most_peers) {}

  // The peers that there are now; says which of those before are no longer timed.
  std::vector<NodeId> SetPeers(std::vector<LinkPeer> peers, absl::Time now);
  // All are to be timed now.
  void MakeAllDue(absl::Time now);

  // The peer whose turn it is, if it is anybody's yet.
  std::optional<LinkPeer> Due(absl::Time now) const;
  void Timed(const NodeId& peer, absl::Time now);
  void Failed(const NodeId& peer, absl::Time now);

 private:
  struct Entry {
    LinkPeer peer;
    absl::Time due;
    absl::Duration backoff;
  };

  const NodeId self_;
  const absl::Duration period_;
  const size_t most_peers_;
  std::map<NodeId, Entry> entries_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_CALIBRATION_LINK_SCHEDULE_H_
