// What the planner would do about chunks of a running cluster, from this machine: the constants come
// from the nodes themselves, from their chunks (a short fetch) and from the links to them (messages
// of at most a few MiB each). One thread; blocks.
#ifndef LATENTD_TOOLS_EXPLAIN_H_
#define LATENTD_TOOLS_EXPLAIN_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/client.h"
#include "proto/latentd/v1/costs.pb.h"
#include "routing/plan_explanation.h"

namespace latentd {

struct ExplainOptions {
  std::vector<ChunkId> chunks;
  uint64_t rows = 128;
  uint64_t steps = 16;
  uint64_t cache_bytes = 0;          // free at the requester
  double deadline_us = 0;            // 0: none
  int64_t position_shift = 0;        // of every chunk
  double prefill_us = 0;             // a token; 0: the requester cannot compute records anew
  bool calibrate = false;            // time the nodes' attention from here, whatever they say of it
  std::vector<v1::NodeCosts> costs;  // what nodes say of themselves
  absl::Duration timeout = absl::Seconds(10);
};

struct ExplainReport {
  PlanExplanation plan;
  std::vector<std::string> notes;  // what could not be measured or is not believed, and why
  std::vector<NodeId> nodes;

  std::string ToText() const;
  nlohmann::json ToJson() const;
};

// NOT_FOUND naming chunks that no holder has. Otherwise as Client's calls, MakePlan and Calibrate.
absl::StatusOr<ExplainReport> ExplainChunks(Client& client, const ExplainOptions& options);

}  // namespace latentd

#endif  // LATENTD_TOOLS_EXPLAIN_H_
