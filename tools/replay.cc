#include "tools/replay.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/bf16.h"
#include "tools/chunk_placer.h"
#include "tools/expected.h"
#include "tools/query_memory.h"
#include "transport/record_checksum.h"

namespace latentd {
namespace {

using Clock = std::chrono::steady_clock;

class Replayer {
 public:
  Replayer(Client& client, const Trace& trace, const ReplayOptions& options)
      : client_(client), trace_(trace), options_(options), format_(client.layout().record_format) {}

  absl::StatusOr<ReplayReport> Run() {
    if (absl::Status s = CheckFits(); !s.ok()) return s;
    if (absl::Status s = TakeMemory(); !s.ok()) return s;
    Prepare();
    if (absl::Status s = Publish(); !s.ok()) return s;
    for (uint32_t layer = 0; layer < trace_.layers.size(); ++layer) {
      for (uint32_t step = 0; step < trace_.steps; ++step) {
        options_.progress(absl::StrCat(trace_.name, ": layer ", layer, ", step ", step));
        if (options_.interrupted()) return Named(absl::CancelledError("interrupted"), layer, step);
        if (absl::Status s = AskStep(layer, step); !s.ok()) return s;
      }
      if (absl::Status s = AskAllSteps(layer); !s.ok()) return s;
    }
    return std::move(report_);
  }

 private:
  absl::Status CheckFits() const {
    const Layout& layout = client_.layout();
    if (trace_.geometry == layout.geometry() && trace_.layers.size() <= layout.layers)
      return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        trace_.name, ": ", trace_.layers.size(), " layers of ", trace_.geometry.latent_width, "+",
        trace_.geometry.rope_width, " values do not fit the cluster's layout: ", ToString(layout)));
  }

  absl::Status TakeMemory() {
    auto memory = QueryMemory::Create(options_.device);
    if (!memory.ok()) return memory.status();
    memory_ = *std::move(memory);
    auto buffers = QueryBuffers::Create(*memory_, uint64_t{trace_.steps} * trace_.heads,
                                        trace_.geometry, options_.out_format);
    if (!buffers.ok()) return buffers.status();
    buffers_ = *buffers;
    return absl::OkStatus();
  }

  // Everything that takes long happens before the first chunk is published: a daemon gives a client
  // up that holds open chunks and says nothing.
  void Prepare() {
    for (uint32_t layer = 0; layer < trace_.layers.size(); ++layer) {
      options_.progress(absl::StrCat(trace_.name, ": expected answers of layer ", layer));
      records_.push_back(RecordsOf(trace_, layer, format_));
      expected_.push_back(
          ExpectedOf(trace_, layer, format_, records_.back(), [this] { client_.Progress(); }));
    }
    report_.trace = trace_.name;
    report_.record = format_;
    report_.heads = trace_.heads;
    report_.sealed = trace_.layers.size() == client_.layout().layers;
    const uint64_t record_bytes = client_.layout().record_bytes();
    report_.cache_bytes = trace_.layers.size() * trace_.tokens() * record_bytes;
    for (uint32_t step = 0; step < trace_.steps; ++step) {
      report_.cache_bytes_each += trace_.layers.size() * trace_.visible(step) * record_bytes;
    }
  }

  absl::Status Publish() {
    auto placement = ChunkPlacer::Create(*client_.table(), options_.holders, FreshSeed());
    if (!placement.ok()) return placement.status();
    const uint64_t record_bytes = client_.layout().record_bytes();
    const auto layers = static_cast<uint32_t>(trace_.layers.size());
    for (uint32_t first = 0; first < trace_.tokens(); first += options_.chunk_tokens) {
      const uint32_t tokens = std::min(options_.chunk_tokens, trace_.tokens() - first);
      const ChunkId id = placement->Draw(chunks_.size());
      options_.progress(absl::StrCat(trace_.name, ": publishing chunk ", chunks_.size()));
      if (options_.interrupted())
        return absl::CancelledError(absl::StrCat(trace_.name, ": interrupted"));
      std::vector<std::byte> records;
      for (const std::vector<std::byte>& layer : records_) {
        const auto begin = layer.begin() + static_cast<ptrdiff_t>(first * record_bytes);
        records.insert(records.end(), begin, begin + static_cast<ptrdiff_t>(tokens * record_bytes));
      }
      absl::Status status = client_.Publish({.chunk = id, .layers = layers, .tokens = tokens},
                                            records, options_.timeout);
      if (status.ok() && report_.sealed) {
        const uint64_t checksum = RangeChecksum(records, record_bytes, 0, layers, 0, tokens);
        status = client_.Seal(id, tokens, checksum, options_.timeout);
      }
      if (!status.ok()) return status;
      chunks_.push_back({id, tokens});
      report_.published_bytes += records.size();
    }
    report_.chunks = static_cast<uint32_t>(chunks_.size());
    report_.nodes = static_cast<uint32_t>(std::min(placement->nodes(), chunks_.size()));
    return absl::OkStatus();
  }

  // The chunks' first `visible` tokens.
  std::vector<VisibleChunk> Visible(uint32_t visible) const {
    std::vector<VisibleChunk> chunks;
    for (const VisibleChunk& chunk : chunks_) {
      const uint32_t tokens = std::min(chunk.visible_tokens, visible);
      if (tokens > 0) chunks.push_back({chunk.id, tokens});
      visible -= tokens;
    }
    return chunks;
  }

  absl::Status AskStep(uint32_t layer, uint32_t step) {
    const absl::StatusOr<AttendAnswer> answer = Ask(layer, step, 1);
    if (!answer.ok()) return Named(answer.status(), layer, step);
    report_.latency_us.push_back(attend_us_);
    report_.routed_bytes += answer->bytes_sent + answer->bytes_received;
    Compare(layer, step, 1);
    return absl::OkStatus();
  }

  absl::Status AskAllSteps(uint32_t layer) {
    const absl::StatusOr<AttendAnswer> answer = Ask(layer, 0, trace_.steps);
    if (!answer.ok()) return Named(answer.status(), layer, trace_.steps - 1);
    Compare(layer, 0, trace_.steps);
    return absl::OkStatus();
  }

  absl::StatusOr<AttendAnswer> Ask(uint32_t layer, uint32_t first_step, uint32_t steps) {
    const std::vector<VisibleChunk> chunks = Visible(trace_.visible(first_step + steps - 1));
    const QueryGroup group = {.tokens = steps, .causal = steps > 1, .chunks = chunks};
    const size_t rows = size_t{steps} * trace_.heads;
    const uint32_t width = trace_.geometry.row_width();
    // Bytes that no answer consists of: what the client does not write shows.
    out_.assign(rows * trace_.geometry.latent_width * OutValueBytes(options_.out_format),
                std::byte{0xff});
    lse_.assign(rows, 0);
    AttendQuery query = {.layer = layer,
                         .scale = trace_.scale,
                         .heads = trace_.heads,
                         .groups = {&group, 1},
                         .out_format = options_.out_format};
    buffers_.Fill(*memory_, rows, &query);
    const std::span<std::byte> lse = buffers_.lse.first(rows * sizeof(float));
    const auto queries = std::span(trace_.layers[layer].queries)
                             .subspan(size_t{first_step} * trace_.heads * width, rows * width);
    absl::Status status = memory_->Write(buffers_.rows.first(queries.size_bytes()), queries.data());
    if (status.ok()) status = memory_->Write(query.out, out_.data());
    if (status.ok()) status = memory_->Write(lse, lse_.data());
    if (!status.ok()) return status;
    const Clock::time_point start = Clock::now();
    absl::StatusOr<AttendAnswer> answer = client_.Attend(query, options_.timeout);
    status = memory_->Finish();
    attend_us_ = std::chrono::duration<double, std::micro>(Clock::now() - start).count();
    if (status.ok()) status = memory_->Read(query.out, out_.data());
    if (status.ok()) status = memory_->Read(lse, lse_.data());
    if (!status.ok()) return status;
    return answer;
  }

  void Compare(uint32_t layer, uint32_t first_step, uint32_t steps) {
    ++report_.queries;
    const ExpectedAnswers& expected = expected_[layer];
    const uint32_t width = trace_.geometry.latent_width;
    std::vector<float> got(width);
    for (size_t row = 0; row < size_t{steps} * trace_.heads; ++row) {
      const size_t recorded = size_t{first_step} * trace_.heads + row;
      ReadRow(row, got);
      report_.error.Add(CompareRow(got, lse_[row],
                                   std::span(expected.out).subspan(recorded * width, width),
                                   expected.lse[recorded]));
    }
  }

  void ReadRow(size_t row, std::span<float> values) const {
    const std::byte* bytes = out_.data() + row * values.size() * OutValueBytes(options_.out_format);
    if (options_.out_format == OutFormat::kFp32) {
      std::memcpy(values.data(), bytes, values.size_bytes());
      return;
    }
    for (size_t i = 0; i < values.size(); ++i) {
      Bf16 value;
      std::memcpy(&value, bytes + i * sizeof(value), sizeof(value));
      values[i] = Bf16ToFloat(value);
    }
  }

  absl::Status Named(const absl::Status& status, uint32_t layer, uint32_t step) const {
    return absl::Status(status.code(), absl::StrCat(trace_.name, ": layer ", layer, ", step ", step,
                                                    ": ", std::string(status.message())));
  }

  Client& client_;
  const Trace& trace_;
  const ReplayOptions& options_;
  const RecordFormat format_;
  std::vector<std::vector<std::byte>> records_;  // of each layer
  std::vector<ExpectedAnswers> expected_;        // of each layer
  std::vector<VisibleChunk> chunks_;             // all their tokens
  std::unique_ptr<QueryMemory> memory_;
  QueryBuffers buffers_;
  std::vector<std::byte> out_;
  std::vector<float> lse_;
  double attend_us_ = 0;  // of the last query
  ReplayReport report_;
};

}  // namespace

absl::StatusOr<ReplayReport> Replay(Client& client, const Trace& trace,
                                    const ReplayOptions& options) {
  return Replayer(client, trace, options).Run();
}

}  // namespace latentd
