// For tests: whole daemons in one process, whose tables a test makes one after the other. One
// thread, but for what the daemons do.
#ifndef LATENTD_DAEMON_REPLICATION_TEST_CLUSTER_H_
#define LATENTD_DAEMON_REPLICATION_TEST_CLUSTER_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client/client.h"
#include "config/config.h"
#include "daemon/process/server.h"
#include "daemon/replication/test_membership.h"
#include "proto/latentd/v1/admin.grpc.pb.h"
#include "routing/placement.h"

namespace latentd {

class TestCluster {
 public:
  explicit TestCluster(uint32_t replicas) : replicas_(replicas) {}
  ~TestCluster();

  // A daemon that nobody knows yet. `more` goes into its configuration.
  void Add(const std::string& id, const std::string& more = "");
  // The next table, by who runs and what they have claimed; everybody gets it. False: nothing
  // would change.
  bool NextEpoch();
  // Tables, until nothing moves any more. Fails the test after a while.
  void Settle();
  // Ends a daemon without a table that says so.
  void Stop(const std::string& id);
  // It has stopped and will not come back.
  void Forget(const std::string& id);
  void Drain(const std::string& id);

  const TablePtr& table() const { return table_; }
  std::unique_ptr<Client> Connect(const std::string& id) const;
  v1::StatusResponse StatusOf(const std::string& id) const;
  // What the node has of a chunk; nothing if it has none of it.
  std::optional<v1::Chunk> ChunkOn(const std::string& id, const ChunkId& chunk) const;
  // What the node said that others lack.
  std::vector<MissedWrite> MissedSaidBy(const std::string& id) const;
  // Slots that the node joins and has claimed, as they are placed.
  bool ClaimedAll(const std::string& id);

 private:
  struct Node {
    std::shared_ptr<TestMember> member;
    std::unique_ptr<Server> server;  // null: stopped
  };

  std::unique_ptr<v1::Admin::Stub> AdminOf(const std::string& id) const;

  const uint32_t replicas_;
  std::map<std::string, Node> nodes_;
  TablePtr table_;
};

// Fails the test unless `condition` comes true.
void WaitFor(const std::string& what, const std::function<bool()>& condition);

// A chunk with records of its own, in all layers.
struct TestChunk {
  ChunkId id;
  uint32_t layers = 0;
  uint32_t tokens = 0;
  std::vector<std::byte> records;
  uint64_t checksum = 0;

  TestChunk(const Layout& layout, uint64_t seed, uint32_t tokens);
  std::span<const std::byte> Layer(uint32_t layer, uint32_t tokens) const;
};

absl::Status PublishAndSeal(Client& client, const TestChunk& chunk);
// OK if the cluster has it and its records are what they were.
absl::Status FetchAndCompare(Client& client, const TestChunk& chunk);

}  // namespace latentd

#endif  // LATENTD_DAEMON_REPLICATION_TEST_CLUSTER_H_
