// `TableStreams` feeds the routing table to every WatchTable stream: each gets the newest table
// there is whenever it is ready for one, so that a slow client skips tables instead of piling them
// up.
//
// Any thread. Streams are gRPC's and delete themselves; Close ends them all, and the gRPC server
// must be shut down before this is destroyed.
#ifndef LATENTD_DAEMON_SERVICES_TABLE_STREAMS_H_
#define LATENTD_DAEMON_SERVICES_TABLE_STREAMS_H_

#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_set>

#include "proto/latentd/v1/cluster.pb.h"
#include "routing/routing_table.h"

namespace latentd {

class TableStreams {
 public:
  using Message = std::shared_ptr<const v1::RoutingTable>;

  TableStreams();
  ~TableStreams();

  // To every stream, those to come included.
  void Publish(const RoutingTable& table);
  // The newest table's message, or null.
  Message newest() const;

  // A stream to a client that has the table of `known_epoch`.
  grpc::ServerWriteReactor<v1::RoutingTable>* NewStream(uint64_t known_epoch);
  // Ends every stream with UNAVAILABLE, those to come included.
  void Close();

  size_t count() const;

 private:
  class Stream;

  mutable std::mutex mutex_;
  Message newest_;
  bool closed_ = false;
  std::unordered_set<Stream*> streams_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_SERVICES_TABLE_STREAMS_H_
