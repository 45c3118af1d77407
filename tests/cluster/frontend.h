// `Frontend` is the client library as tests use it: it publishes chunks that the oracle made and
// asks the oracle's questions.
//
// One thread, as its Client.
#ifndef LATENTD_TESTS_CLUSTER_FRONTEND_H_
#define LATENTD_TESTS_CLUSTER_FRONTEND_H_

#include <memory>
#include <string>

#include "client/client.h"
#include "tests/cluster/load.h"
#include "tests/cluster/oracle.h"

namespace latentd::testing {

class Frontend {
 public:
  // Liveness of a test's clients: a frozen daemon is noticed soon, a busy one is not mistaken for
  // it.
  static ClientOptions Options(const std::string& endpoint);

  // Throws std::runtime_error when it cannot connect.
  explicit Frontend(const std::string& endpoint);
  explicit Frontend(ClientOptions options);

  Client& client() { return *client_; }

  // A chunk id whose slot is held by the table's node of this name; ids of one (node, salt) are
  // equal.
  ChunkId IdOn(const std::string& node, uint64_t salt) const;

  // Publishes all of it and seals it.
  absl::Status Publish(const ChunkData& chunk, absl::Duration timeout = absl::Seconds(20));
  // Publishes `tokens` tokens of it from `first`, all layers, and does not seal.
  absl::Status PublishPart(const ChunkData& chunk, uint32_t first, uint32_t tokens,
                           absl::Duration timeout = absl::Seconds(20));
  absl::Status Seal(const ChunkData& chunk, absl::Duration timeout = absl::Seconds(20));

  // `told`, unless null, gets what the client says about the answer.
  absl::Status Ask(const Question& question, absl::Duration timeout, Partials* answer,
                   AttendAnswer* told = nullptr);
  // Asks and compares: OK only if the answer is right; DATA_LOSS saying how far it is off if not.
  absl::Status AskAndCheck(const Question& question, absl::Duration timeout = absl::Seconds(20),
                           AttendAnswer* told = nullptr);

 private:
  std::unique_ptr<Client> client_;
};

// Askers for VerifyingLoad, each with a client of its own.
MakeAsk AskThroughClient(const std::string& endpoint);
MakeAsk AskThroughClient(const ClientOptions& options);

}  // namespace latentd::testing

#endif  // LATENTD_TESTS_CLUSTER_FRONTEND_H_
