// `PeerWatch` asks the other nodes of the membership how they are, so that any node can tell the
// truth about all of them: a static list says who there should be, not who there is. It changes no
// table. What changes about a peer is logged, once.
//
// A thread of its own between Start and Stop; the rest is for any thread. What it is given must
// outlive it.
#ifndef LATENTD_DAEMON_SERVICES_PEER_WATCH_H_
#define LATENTD_DAEMON_SERVICES_PEER_WATCH_H_

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "config/config.h"
#include "daemon/membership/membership.h"
#include "daemon/services/node_facts.h"
#include "daemon/services/peer_record.h"
#include "daemon/services/table_fingerprint.h"

namespace grpc {
class ChannelCredentials;
}

namespace latentd {

struct PeerWatchOptions {
  std::optional<TlsConfig> tls;  // this node's, which it shows to its peers; none: plaintext
  absl::Duration interval = absl::Seconds(2);  // between two rounds of questions
  absl::Duration timeout = absl::Seconds(1);   // of one question
  absl::Duration tls_reload = absl::Seconds(30);
};

class PeerWatch {
 public:
  PeerWatch(const NodeFacts* facts, const Membership* membership, PeerWatchOptions options);
  ~PeerWatch();
  PeerWatch(const PeerWatch&) = delete;
  PeerWatch& operator=(const PeerWatch&) = delete;

  // Once, when the membership has started.
  void Start();
  // Gives up what is being asked. Again: nothing happens.
  void Stop();

  // Every peer as last seen, by id.
  std::vector<PeerRecord> peers() const;
  // Null if nobody of that id is known.
  std::optional<PeerRecord> Find(const NodeId& id) const;

 private:
  class Channel;
  struct Question;

  void Run();
  void AskAll();
  // Whom to ask in this round: the membership's nodes but this one, with channels that are kept.
  void FollowMembership();
  void Take(const Question& question, const OwnSide& own);
  OwnSide Own();

  const NodeFacts* const facts_;
  const Membership* const membership_;
  const PeerWatchOptions options_;
  const std::shared_ptr<grpc::ChannelCredentials> credentials_;
  TableFingerprints fingerprints_;
  std::map<NodeId, std::unique_ptr<Channel>> channels_;  // the thread's

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::map<NodeId, PeerRecord> peers_;
  std::vector<std::unique_ptr<Question>> questions_;  // under way
  std::thread thread_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_SERVICES_PEER_WATCH_H_
