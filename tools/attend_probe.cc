#include "tools/attend_probe.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tools/bench_data.h"
#include "tools/chunk_placer.h"
#include "tools/load_options.h"

namespace latentd {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

uint32_t HeadsOf(uint32_t rows) {
  uint32_t heads = std::min(rows, kMaxHeads);
  while (rows % heads != 0) --heads;
  return heads;
}

absl::StatusOr<AttendProbe> AttendProbe::Create(Client& client, const AttendProbeOptions& options) {
  AttendLoadOptions load;
  load.heads = HeadsOf(options.most_rows);
  load.query_tokens = options.most_rows / load.heads;
  load.tokens = options.most_tokens;
  load.chunk_tokens = options.most_tokens;
  if (absl::Status s = CheckAttendLoad(load, client.limits(), client.layout()); !s.ok()) return s;
  std::mt19937_64 random(FreshSeed());
  auto placer = ChunkPlacer::Create(*client.table(), options.holders, random());
  if (!placer.ok()) return placer.status();
  const Geometry geometry = client.layout().geometry();
  AttendProbe probe(client, options);
  auto memory = QueryMemory::Create(options.device);
  if (!memory.ok()) return memory.status();
  probe.memory_ = *std::move(memory);
  auto buffers =
      QueryBuffers::Create(*probe.memory_, options.most_rows, geometry, OutFormat::kBf16);
  if (!buffers.ok()) return buffers.status();
  probe.buffers_ = *buffers;
  const std::vector<Bf16> rows =
      RandomBf16(random, uint64_t{options.most_rows} * geometry.row_width());
  if (auto s = probe.memory_->Write(probe.buffers_.rows, rows.data()); !s.ok()) return s;
  const std::vector<std::byte> records =
      RandomRecords(random, client.layout(), uint64_t{options.most_tokens} * options.layers);
  for (size_t i = 0; i < placer->nodes(); ++i) {
    const ChunkId id = placer->Draw(i);
    const ChunkRange range = {.chunk = id, .layers = options.layers, .tokens = options.most_tokens};
    if (absl::Status s = client.Publish(range, records, options.timeout); !s.ok()) return s;
    probe.nodes_.push_back(placer->node(i));
    probe.chunks_.push_back({.id = id, .visible_tokens = options.most_tokens});
  }
  return probe;
}

absl::StatusOr<AttendTiming> AttendProbe::Attend(uint32_t rows, uint32_t tokens, uint32_t first,
                                                 uint32_t holders) {
  if (options_.interrupted()) return absl::CancelledError("interrupted");
  std::vector<VisibleChunk> chunks(chunks_.begin() + first, chunks_.begin() + first + holders);
  for (VisibleChunk& chunk : chunks) chunk.visible_tokens = tokens;
  const uint32_t heads = HeadsOf(rows);
  const QueryGroup group = {.tokens = rows / heads, .chunks = chunks};
  AttendQuery query = {.layer = 0, .scale = kProbeScale, .heads = heads, .groups = {&group, 1}};
  buffers_.Fill(*memory_, rows, &query);
  const Clock::time_point start = Clock::now();
  const auto answer = client_->Attend(query, options_.timeout);
  // A device has merged it by then.
  if (absl::Status s = memory_->Finish(); !s.ok()) return s;
  const std::chrono::duration<double, std::micro> total = Clock::now() - start;
  if (!answer.ok()) return answer.status();
  const auto slowest = std::max_element(
      answer->holders.begin(), answer->holders.end(),
      [](const HolderTiming& a, const HolderTiming& b) { return a.rtt_ns < b.rtt_ns; });
  if (slowest == answer->holders.end()) return absl::InternalError("nobody answered a query");
  return AttendTiming{.total_us = total.count(),
                      .rtt_us = static_cast<double>(slowest->rtt_ns) * 1e-3,
                      .queue_us = static_cast<double>(slowest->queue_ns) * 1e-3,
                      .compute_us = static_cast<double>(slowest->compute_ns) * 1e-3};
}

}  // namespace latentd
