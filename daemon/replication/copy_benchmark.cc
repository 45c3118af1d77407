// How fast a node that joins copies: two daemons in two processes of this machine, DeepSeek-V3's
// geometry, chunks of 256 tokens.
//
//   copy_benchmark [MiB] [transport] [ranges on their way]        default: 1024 tcp 4
//
// Prints what was copied and how fast, from the table that makes it join until it has claimed all of
// the 65,536 slots; to be compared with one stream of `ucx_perftest` over the same transport
// (docs/performance.md). 0 MiB: what the slots alone take.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/client.h"
#include "config/loader.h"
#include "daemon/process/server.h"
#include "daemon/replication/test_membership.h"
#include "routing/chunk_id.h"
#include "routing/placement.h"
#include "transport/record_checksum.h"

namespace latentd {
namespace {

constexpr uint32_t kTokens = 256;

template <typename T>
T ValueOrDie(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::cerr << value.status() << "\n";
  std::exit(1);
}

struct Daemon {
  std::shared_ptr<TestMember> member = std::make_shared<TestMember>();
  std::unique_ptr<Server> server;
  Replication* replication = nullptr;

  Daemon(const std::string& id, uint64_t mib, const std::string& transport, int parallel) {
    ConfigOrFaults loaded =
        LoadConfig(absl::StrCat("node: { id: ", id, ", advertise: 127.0.0.1 }\n",
                                "control: { listen: \"127.0.0.1:0\" }\n", "data: { transports: [",
                                transport, "], lanes: [{ device: cpu, cache: ", mib + mib / 4 + 64,
                                "MiB }] }\n", "model: deepseek-v3\nmetrics: { listen: off }\n",
                                "migration: { parallel: ", parallel, " }\n"),
                   "benchmark");
    if (!loaded.ok()) {
      std::cerr << ToString(loaded.faults);
      std::exit(1);
    }
    const Generation generation = DrawGeneration();
    ServerParts parts =
        ValueOrDie(MakeParts(loaded.config, generation, std::make_unique<TestMembership>(member)));
    replication = parts.replication.get();
    server = ValueOrDie(Server::Start(loaded.config, generation, std::move(parts)));
  }
};

TablePtr Next(const TablePtr& previous, std::vector<NodeInfo> nodes) {
  return ValueOrDie(
      NextTable(previous, {std::move(nodes), 2, [](NodeIndex, Slot, Epoch) { return false; }}));
}

// One line each way: "node address generation capacity".
void Write(FILE* to, const NodeInfo& node) {
  std::fprintf(to, "%s %s %llu %llu\n", node.id.c_str(), node.control_address.c_str(),
               static_cast<unsigned long long>(ToInt(node.generation)),
               static_cast<unsigned long long>(node.capacity_bytes));
  std::fflush(to);
}

NodeInfo Read(FILE* from) {
  char id[64], address[128];
  unsigned long long generation = 0, capacity = 0;
  if (std::fscanf(from, "%63s %127s %llu %llu", id, address, &generation, &capacity) != 4) {
    std::exit(1);
  }
  return {.id = id,
          .control_address = address,
          .generation = Generation{generation},
          .capacity_bytes = capacity};
}

void Fill(const Daemon& daemon, uint64_t mib) {
  auto client = ValueOrDie(Client::Connect({.endpoints = {daemon.server->control_address()}}));
  const Layout& layout = client->layout();
  std::vector<std::byte> records(uint64_t{layout.layers} * kTokens * layout.record_bytes());
  for (size_t i = 0; i < records.size(); ++i) records[i] = std::byte(i % 60);
  const uint64_t checksum =
      RangeChecksum(records, layout.record_bytes(), 0, layout.layers, 0, kTokens);
  for (uint64_t i = 0; i * records.size() < mib << 20; ++i) {
    const ChunkId id = PlaceChunkId(Slot{static_cast<uint16_t>(i * 997)}, {.hi = i, .lo = i});
    absl::Status status =
        client->Publish({.chunk = id, .layers = layout.layers, .tokens = kTokens}, records);
    if (status.ok()) status = client->Seal(id, kTokens, checksum);
    if (!status.ok()) {
      std::cerr << status << "\n";
      std::exit(1);
    }
  }
}

// The process that has the chunks.
int Source(FILE* in, FILE* out, uint64_t mib, const std::string& transport, int parallel) {
  Daemon daemon("node-a", mib, transport, parallel);
  const TablePtr first = Next(nullptr, {daemon.member->self});
  daemon.member->Deliver(first);
  Fill(daemon, mib);
  Write(out, daemon.member->self);
  const NodeInfo other = Read(in);
  daemon.member->Deliver(Next(first, {daemon.member->self, other}));
  Write(out, daemon.member->self);
  std::fgetc(in);
  return std::fgetc(in) == EOF ? 0 : 1;
}

int Run(FILE* in, FILE* out, uint64_t mib, const std::string& transport, int parallel) {
  Daemon daemon("node-b", mib, transport, parallel);
  const NodeInfo source = Read(in);
  const TablePtr first = Next(nullptr, {source});
  Write(out, daemon.member->self);
  Read(in);
  const absl::Time start = absl::Now();
  daemon.member->Deliver(Next(first, {source, daemon.member->self}));
  while (!daemon.member->ClaimedAll()) absl::SleepFor(absl::Milliseconds(1));
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  absl::SleepFor(absl::Milliseconds(300));  // until that is noted
  const uint64_t bytes = daemon.replication->status().sync.counts.bytes;
  std::printf("%.0f MiB copied; all claimed after %.3f s: %.0f MiB/s\n",
              static_cast<double>(bytes) / (1 << 20), seconds,
              static_cast<double>(bytes) / (1 << 20) / seconds);
  return 0;
}

}  // namespace
}  // namespace latentd

int main(int argc, char** argv) {
  const uint64_t mib = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1024;
  const std::string transport = argc > 2 ? argv[2] : "tcp";
  const int parallel = argc > 3 ? std::atoi(argv[3]) : 4;
  int to_child[2], to_parent[2];
  if (pipe(to_child) != 0 || pipe(to_parent) != 0) return 1;
  // Before anything has threads.
  const pid_t child = fork();
  if (child == 0) {
    close(to_child[1]);
    close(to_parent[0]);
    return latentd::Source(fdopen(to_child[0], "r"), fdopen(to_parent[1], "w"), mib, transport,
                           parallel);
  }
  close(to_child[0]);
  close(to_parent[1]);
  FILE* out = fdopen(to_child[1], "w");
  const int code = latentd::Run(fdopen(to_parent[0], "r"), out, mib, transport, parallel);
  std::fclose(out);
  waitpid(child, nullptr, 0);
  return code;
}
