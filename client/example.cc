// `example HOST:PORT`: publishes a chunk of random records, seals it, attends it and prints the
// answer.
#include <iostream>
#include <random>
#include <vector>

#include "client/client.h"
#include "kernels/bf16.h"
#include "routing/chunk_id.h"
#include "transport/record_checksum.h"

namespace latentd {
namespace {

constexpr uint32_t kTokens = 100;
constexpr uint32_t kHeads = 16;

std::vector<Bf16> RandomValues(size_t count) {
  static std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<Bf16> values(count);
  for (Bf16& value : values) value = FloatToBf16(normal(random));
  return values;
}

absl::Status Run(const std::string& endpoint) {
  absl::StatusOr<std::unique_ptr<Client>> connected = Client::Connect({.endpoints = {endpoint}});
  if (!connected.ok()) return connected.status();
  Client& client = **connected;
  const Layout& layout = client.layout();
  if (layout.record_format != RecordFormat::kBf16) {
    return absl::FailedPreconditionError("this example publishes bf16 records only");
  }

  // The id says who holds the chunk. It is made from what the chunk is about: here, token ids.
  const std::vector<uint32_t> token_ids(kTokens, 42);
  const ChunkId chunk = DeriveChunkId(kNoChunk, token_ids, client.layout_hash());
  const uint32_t width = layout.geometry().row_width();

  // [layers][tokens][record]
  const auto records = RandomValues(size_t{layout.layers} * kTokens * width);
  const auto bytes = std::as_bytes(std::span(records));
  absl::Status status =
      client.Publish({.chunk = chunk, .layers = layout.layers, .tokens = kTokens}, bytes);
  if (!status.ok()) return status;
  const uint64_t checksum =
      RangeChecksum(bytes, layout.record_bytes(), 0, layout.layers, 0, kTokens);
  if (status = client.Seal(chunk, kTokens, checksum); !status.ok()) return status;

  // One query token over the whole chunk, in layer 0.
  const VisibleChunk visible = {chunk, kTokens};
  const QueryGroup group = {.tokens = 1, .chunks = {&visible, 1}};
  const auto rows = RandomValues(size_t{kHeads} * width);
  std::vector<float> out(size_t{kHeads} * layout.latent_width);
  std::vector<float> lse(kHeads);
  const auto answer = client.Attend({.layer = 0,
                                     .scale = 0.135f,
                                     .heads = kHeads,
                                     .groups = {&group, 1},
                                     .rows = rows,
                                     .out_format = OutFormat::kFp32,
                                     .out = std::as_writable_bytes(std::span(out)),
                                     .lse = lse});
  if (!answer.ok()) return answer.status();
  std::cout << "answered by " << answer->holders[0].node << " in "
            << answer->holders[0].rtt_ns / 1000 << " us\n"
            << "head 0: log-sum-exp " << lse[0] << ", out " << out[0] << " " << out[1] << " ...\n";
  return absl::OkStatus();
}

}  // namespace
}  // namespace latentd

int main(int argc, char** argv) {
  if (argc != 2 || *argv[1] == '-') return std::cerr << "usage: example HOST:PORT\n", 2;
  const absl::Status status = latentd::Run(argv[1]);
  if (!status.ok()) std::cerr << "example: " << status << "\n";
  return status.ok() ? 0 : 1;
}
