#include "tools/latency.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tools/bench_data.h"
#include "tools/placement.h"

namespace latentd {
namespace {

using Clock = std::chrono::steady_clock;

double Microseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::micro>(duration).count();
}

// Keeps `concurrency` calls in flight until enough are done. `start(slot, done)` starts one in one
// of the slots; `done` is to be called with its status and whether the time it took counts.
class Driver {
 public:
  using Done = std::function<void(absl::Status)>;
  using Start = std::function<void(uint32_t slot, bool counts, Done done)>;

  Driver(Client& client, const LoadOptions& options) : client_(client), options_(options) {}

  absl::Status Run(const Start& start) {
    for (uint32_t slot = 0; slot < options_.concurrency; ++slot) Next(slot, start);
    client_.RunUntil([this] { return in_flight_ == 0; });
    seconds_ = std::chrono::duration<double>(Clock::now() - begin_).count();
    return status_;
  }

  uint64_t counted() const { return counted_; }
  double seconds() const { return seconds_; }

 private:
  void Next(uint32_t slot, const Start& start) {
    if (!status_.ok() || started_ >= options_.warmup + options_.requests) return;
    if (started_ == options_.warmup) begin_ = Clock::now();
    const bool counts = started_ >= options_.warmup;
    if (counts && Clock::now() - begin_ > absl::ToChronoNanoseconds(options_.duration)) return;
    ++started_;
    ++in_flight_;
    start(slot, counts, [this, slot, counts, &start](absl::Status status) {
      --in_flight_;
      if (!status.ok() && status_.ok()) status_ = std::move(status);
      if (counts) ++counted_;
      options_.progress(absl::StrCat(started_, " requests"));
      Next(slot, start);
    });
  }

  Client& client_;
  const LoadOptions& options_;
  uint64_t started_ = 0;
  uint64_t counted_ = 0;
  uint32_t in_flight_ = 0;
  Clock::time_point begin_ = Clock::now();
  double seconds_ = 0;
  absl::Status status_;
};

// Chunks of random records of layer 0, spread over the holders, in the order of the sequence. They
// stay open: a bench leaves nothing behind.
absl::StatusOr<std::vector<VisibleChunk>> PublishRandom(Client& client,
                                                        const AttendLoadOptions& options,
                                                        std::mt19937_64& random) {
  auto placement = Placement::Create(*client.table(), options.holders, random());
  if (!placement.ok()) return placement.status();
  std::vector<VisibleChunk> chunks;
  const uint32_t per_holder = (options.tokens + options.holders - 1) / options.holders;
  const uint32_t most = std::max(std::min(options.chunk_tokens, per_holder), 1u);
  for (uint32_t first = 0; first < options.tokens; first += most) {
    const uint32_t tokens = std::min(most, options.tokens - first);
    options.progress(absl::StrCat("publishing token ", first));
    const ChunkId id = placement->Draw(chunks.size());
    const std::vector<std::byte> records = RandomRecords(random, client.layout(), tokens);
    if (absl::Status s =
            client.Publish({.chunk = id, .layers = 1, .tokens = tokens}, records, options.timeout);
        !s.ok()) {
      return s;
    }
    chunks.push_back({id, tokens});
  }
  return chunks;
}

// One request's buffers, reused.
struct AttendSlot {
  std::vector<Bf16> rows;
  std::vector<std::byte> out;
  std::vector<float> lse;
};

struct Samples {
  std::vector<double> total, rtt, queue, compute, beyond;
  double batch_rows = 0;
  uint64_t holders = 0;

  void Add(double total_us, const AttendAnswer& answer) {
    const auto slowest = std::max_element(
        answer.holders.begin(), answer.holders.end(),
        [](const HolderTiming& a, const HolderTiming& b) { return a.rtt_ns < b.rtt_ns; });
    total.push_back(total_us);
    if (slowest == answer.holders.end()) return;
    const double ns = 1e-3;
    const double rtt_us = static_cast<double>(slowest->rtt_ns) * ns;
    const double queue_us = static_cast<double>(slowest->queue_ns) * ns;
    const double compute_us = static_cast<double>(slowest->compute_ns) * ns;
    rtt.push_back(rtt_us);
    queue.push_back(queue_us);
    compute.push_back(compute_us);
    beyond.push_back(std::max(rtt_us - queue_us - compute_us, 0.0));
    for (const HolderTiming& holder : answer.holders) batch_rows += holder.batch_rows;
    holders += answer.holders.size();
  }
};

}  // namespace

absl::StatusOr<AttendLoadReport> MeasureAttend(Client& client, const AttendLoadOptions& options) {
  std::mt19937_64 random(FreshSeed());
  const absl::StatusOr<std::vector<VisibleChunk>> chunks = PublishRandom(client, options, random);
  if (!chunks.ok()) return chunks.status();
  const Geometry geometry = client.layout().geometry();
  const uint64_t rows = uint64_t{options.query_tokens} * options.heads;
  std::vector<AttendSlot> slots(options.concurrency);
  for (AttendSlot& slot : slots) {
    slot.rows = RandomBf16(random, rows * geometry.row_width());
    slot.out.resize(rows * geometry.latent_width * sizeof(Bf16));
    slot.lse.resize(rows);
  }
  const QueryGroup group = {
      .tokens = options.query_tokens, .causal = options.query_tokens > 1, .chunks = *chunks};

  AttendLoadReport report;
  Samples samples;
  Driver driver(client, options);
  const absl::Status status = driver.Run([&](uint32_t index, bool counts, Driver::Done done) {
    AttendSlot& slot = slots[index];
    const Clock::time_point start = Clock::now();
    client.StartAttend(
        {.layer = 0,
         .scale = 0.1352337788608801f,
         .heads = options.heads,
         .groups = {&group, 1},
         .rows = slot.rows,
         .out = slot.out,
         .lse = slot.lse},
        options.timeout,
        [&, start, counts, done = std::move(done)](const absl::StatusOr<AttendAnswer>& answer) {
          if (answer.ok() && counts) {
            samples.Add(Microseconds(Clock::now() - start), *answer);
            report.bytes_sent += answer->bytes_sent;
            report.bytes_received += answer->bytes_received;
          }
          done(answer.status());
        });
  });
  if (!status.ok()) return status;
  report.chunks = static_cast<uint32_t>(chunks->size());
  report.requests = driver.counted();
  report.seconds = driver.seconds();
  report.rows = report.requests * rows;
  report.total = PercentilesOf(std::move(samples.total));
  report.rtt = PercentilesOf(std::move(samples.rtt));
  report.queue = PercentilesOf(std::move(samples.queue));
  report.compute = PercentilesOf(std::move(samples.compute));
  report.beyond = PercentilesOf(std::move(samples.beyond));
  if (samples.holders > 0)
    report.mean_batch_rows = samples.batch_rows / static_cast<double>(samples.holders);
  return report;
}

absl::StatusOr<std::vector<EchoReport>> MeasureWire(Client& client, const LoadOptions& options) {
  const Geometry geometry = client.layout().geometry();
  const uint64_t rows = uint64_t{options.query_tokens} * options.heads;
  const std::vector<std::byte> payload(rows * geometry.row_width() * sizeof(Bf16));
  const uint64_t reply_bytes = rows * (geometry.latent_width * sizeof(Bf16) + sizeof(float));
  std::vector<EchoReport> reports;
  for (const NodeInfo& node : client.table()->nodes()) {
    EchoReport report;
    report.holder = {.node = node.id, .lane = 0};
    report.sent_bytes = payload.size();
    report.received_bytes = reply_bytes;
    std::vector<double> rtt;
    Driver driver(client, options);
    const absl::Status status = driver.Run([&](uint32_t, bool counts, Driver::Done done) {
      client.StartEcho(
          report.holder, payload, reply_bytes, options.timeout,
          [&, counts, done = std::move(done)](const absl::StatusOr<HolderTiming>& timing) {
            if (timing.ok() && counts) rtt.push_back(static_cast<double>(timing->rtt_ns) * 1e-3);
            done(timing.status());
          });
    });
    if (!status.ok()) return status;
    report.transports = client.TransportsTo(report.holder);
    report.requests = driver.counted();
    report.seconds = driver.seconds();
    report.rtt = PercentilesOf(std::move(rtt));
    reports.push_back(std::move(report));
  }
  return reports;
}

}  // namespace latentd
