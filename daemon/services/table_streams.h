// `TableStreams` feeds the routing table to every WatchTable stream: each gets the newest table
// there is whenever it is ready for one, so that a slow client skips tables instead of piling them
// up. A client that understands deltas, and has one of the last tables, is sent what has changed
// since that one.
//
// Any thread. Streams are gRPC's and delete themselves; Close ends them all, and the gRPC server
// must be shut down before this is destroyed.
#ifndef LATENTD_DAEMON_SERVICES_TABLE_STREAMS_H_
#define LATENTD_DAEMON_SERVICES_TABLE_STREAMS_H_

#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <deque>
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

  using TablePtr = std::shared_ptr<const RoutingTable>;

  // To every stream, those to come included.
  void Publish(TablePtr table);
  // The newest table's message, or null.
  Message newest() const;

  grpc::ServerWriteReactor<v1::RoutingTable>* NewStream(const v1::WatchTableRequest& request);
  // Ends every stream with UNAVAILABLE, those to come included.
  void Close();

  size_t count() const;

 private:
  class Stream;
  // One of the last tables.
  struct Past {
    TablePtr table;
    uint64_t hash = 0;
    Message delta;  // to the newest; null: not made yet
  };

  // What a stream to whoever has the table of this hash is sent.
  Message SinceLocked(uint64_t hash);

  mutable std::mutex mutex_;
  Message newest_;
  uint64_t newest_hash_ = 0;
  std::deque<Past> past_;  // the newest last, which is among them
  bool closed_ = false;
  std::unordered_set<Stream*> streams_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_SERVICES_TABLE_STREAMS_H_
