#include "tests/cluster/frontend.h"

#include <stdexcept>
#include <utility>

#include "absl/strings/str_cat.h"
#include "routing/chunk_id.h"
#include "transport/record_checksum.h"

namespace latentd::testing {

ClientOptions Frontend::Options(const std::string& endpoint) {
  return {.endpoints = {endpoint},
          .client_name = "test",
          .ping_after = absl::Milliseconds(200),
          .dead_after = absl::Milliseconds(1000)};
}

Frontend::Frontend(const std::string& endpoint) : Frontend(Options(endpoint)) {}

Frontend::Frontend(ClientOptions options) {
  auto client = Client::Connect(std::move(options));
  if (!client.ok()) throw std::runtime_error("connect: " + client.status().ToString());
  client_ = *std::move(client);
}

ChunkId Frontend::IdOn(const std::string& node, uint64_t salt) const {
  const auto table = client_->table();
  const auto index = table->FindNode(node);
  if (!index.has_value()) throw std::runtime_error("no node " + node);
  const auto slots = table->SlotsOf(*index);
  if (slots.empty()) throw std::runtime_error("no slots of " + node);
  return PlaceChunkId(slots[salt % slots.size()], {.hi = salt, .lo = ~salt});
}

absl::Status Frontend::PublishPart(const ChunkData& chunk, uint32_t first, uint32_t tokens,
                                   absl::Duration timeout) {
  std::vector<std::byte> records;
  for (uint32_t layer = 0; layer < chunk.layers; ++layer) {
    const auto part = chunk.Layer(layer, first, tokens);
    records.insert(records.end(), part.begin(), part.end());
  }
  return client_->Publish(
      {.chunk = chunk.id, .layers = chunk.layers, .first_token = first, .tokens = tokens}, records,
      timeout);
}

absl::Status Frontend::Seal(const ChunkData& chunk, absl::Duration timeout) {
  const uint64_t checksum = RangeChecksum(chunk.records, RecordBytes(chunk.geometry, chunk.format),
                                          0, chunk.layers, 0, chunk.tokens);
  return client_->Seal(chunk.id, chunk.tokens, checksum, timeout);
}

absl::Status Frontend::Publish(const ChunkData& chunk, absl::Duration timeout) {
  if (absl::Status s = PublishPart(chunk, 0, chunk.tokens, timeout); !s.ok()) return s;
  return Seal(chunk, timeout);
}

absl::Status Frontend::Ask(const Question& question, absl::Duration timeout, Partials* answer,
                           AttendAnswer* told) {
  std::vector<VisibleChunk> chunks;
  for (const ExpectedPart& part : question.parts) {
    chunks.push_back({part.chunk->id, part.visible_tokens});
  }
  const QueryGroup group{.tokens = question.tokens, .causal = question.causal, .chunks = chunks};
  answer->out.assign(question.answer.out.size(), 0);
  answer->lse.assign(question.answer.lse.size(), 0);
  auto attended = client_->Attend({.layer = question.layer,
                                   .scale = question.scale,
                                   .heads = question.heads,
                                   .groups = {&group, 1},
                                   .rows = question.rows,
                                   .out_format = OutFormat::kFp32,
                                   .out = std::as_writable_bytes(std::span(answer->out)),
                                   .lse = answer->lse,
                                   .best_effort = question.best_effort},
                                  timeout);
  if (attended.ok() && told != nullptr) *told = *std::move(attended);
  return attended.status();
}

absl::Status Frontend::AskAndCheck(const Question& question, absl::Duration timeout,
                                   AttendAnswer* told) {
  Partials answer;
  if (absl::Status s = Ask(question, timeout, &answer, told); !s.ok()) return s;
  const Difference difference =
      Compare(answer.out, answer.lse, question.answer.out, question.answer.lse,
              question.parts.front().chunk->geometry.latent_width);
  if (difference.Within(kOutBound, kLseBound)) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("a wrong answer: out is off by ", difference.out_rel_l2,
                                          ", lse by ", difference.lse_abs));
}

MakeAsk AskThroughClient(const std::string& endpoint) {
  return AskThroughClient(Frontend::Options(endpoint));
}

MakeAsk AskThroughClient(const ClientOptions& options) {
  return [options]() -> Ask {
    auto frontend = std::make_shared<Frontend>(options);
    return [frontend](const Question& question, absl::Duration timeout, Partials* answer) {
      return frontend->Ask(question, timeout, answer);
    };
  };
}

}  // namespace latentd::testing
