// `TableFollower` keeps the newest routing table: it watches one daemon's stream, moves to another
// when the stream ends or has lasted a while (so that a daemon that hangs is not believed for
// ever), and asks at once when somebody knows of another table. Loop thread only.
#ifndef LATENTD_CLIENT_TABLE_FOLLOWER_H_
#define LATENTD_CLIENT_TABLE_FOLLOWER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/grpc_loop.h"
#include "client/handover.h"
#include "client/table_choice.h"
#include "grpcpp/security/credentials.h"
#include "proto/latentd/v1/cluster.grpc.pb.h"
#include "routing/routing_table.h"

namespace latentd {

class TableFollower {
 public:
  using Report = std::function<void(ControlEvent)>;
  // `report` runs on the loop's thread: TableChanged, TableConflict, HolderAsked.
  TableFollower(std::vector<std::string> endpoints,
                std::shared_ptr<grpc::ChannelCredentials> credentials, GrpcLoop* loop,
                Report report);

  // Starts to watch for others than `table`, which is not reported.
  void Follow(std::shared_ptr<const RoutingTable> table);
  void Offer(std::shared_ptr<const RoutingTable> table, TableSource source);
  // Asks `node` first, then the others, until there is a table of at least `epoch`, or every node
  // was asked in vain.
  void Refresh(const NodeId& node, Epoch epoch);
  // See control.h.
  void AskHolder(const NodeId& node);
  // See control.h.
  void Suspect(const NodeId& node);
  // Ends the stream.
  void Cancel();

 private:
  struct Stream;

  void Receive(const v1::RoutingTable& message, TableSource source = TableSource::kAnybody);
  // Whether the message, whole or what has changed, could be read.
  bool ReceiveFrom(Stream& stream);
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
