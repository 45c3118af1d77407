// `TableFollower` keeps the newest routing table: it watches one daemon's stream, moves to another
// when the stream ends or has lasted a while (so that a daemon that hangs is not believed for
// ever), and asks at once when somebody knows of a newer table. Loop thread only.
#ifndef LATENTD_CLIENT_TABLE_FOLLOWER_H_
#define LATENTD_CLIENT_TABLE_FOLLOWER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/grpc_loop.h"
#include "grpcpp/security/credentials.h"
#include "proto/latentd/v1/cluster.grpc.pb.h"
#include "routing/routing_table.h"

namespace latentd {

class TableFollower {
 public:
  using Report = std::function<void(std::shared_ptr<const RoutingTable>)>;
  // `report` runs on the loop's thread, for each table that is newer than all before it.
  TableFollower(std::vector<std::string> endpoints,
                std::shared_ptr<grpc::ChannelCredentials> credentials, GrpcLoop* loop,
                Report report);

  void Offer(std::shared_ptr<const RoutingTable> table);
  // Starts to watch. REQUIRES: a table has been offered.
  void Follow();
  // Asks `node` first, then the others, until there is a table of at least `epoch`, or every node
  // was asked in vain.
  void Refresh(const NodeId& node, Epoch epoch);
  // Ends the stream.
  void Cancel();

 private:
  struct Stream;

  void Receive(const v1::RoutingTable& message);
  void Watch();
  void ReadNext(std::shared_ptr<Stream> stream);
  void Ended(std::shared_ptr<Stream> stream);
  void Ask(size_t asked, Epoch epoch);
  std::string NextAddress();

  const std::vector<std::string> endpoints_;
  const std::shared_ptr<grpc::ChannelCredentials> credentials_;
  GrpcLoop* const loop_;
  const Report report_;
  std::shared_ptr<const RoutingTable> table_;
  std::shared_ptr<Stream> stream_;
  size_t next_address_ = 0;
  bool asking_ = false;
  absl::Duration backoff_;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_TABLE_FOLLOWER_H_
