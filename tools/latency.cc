#include "tools/latency.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "tools/bench_data.h"
#include "tools/chunk_placer.h"
#include "tools/query_memory.h"

namespace latentd {
namespace {

using Clock = std::chrono::steady_clock;

double Microseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::micro>(duration).count();
}

// Keeps `concurrency` calls in flight until enough are done, the time is over, one fails, or the user
// has seen enough. `start(slot, counts, done)` starts one in one of the slots and returns its id;
// `done` is to be called with its status.
class Driver {
 public:
  using Done = std::function<void(absl::Status)>;
  using Start = std::function<CallId(uint32_t slot, bool counts, Done done)>;

  Driver(Client& client, const LoadOptions& options)
      : client_(client), options_(options), calls_(options.concurrency) {}

  // Calls in flight end before it returns.
  void Run(const Start& start) {
    for (uint32_t slot = 0; slot < options_.concurrency; ++slot) Next(slot, start);
    client_.RunUntil([this] {
      if (status_.ok() && options_.interrupted()) {
        status_ = absl::CancelledError("interrupted");
        for (const auto& call : calls_) {
          if (call.has_value()) client_.Cancel(*call);
        }
      }
      return in_flight_ == 0;
    });
    seconds_ = Seconds(begin_);
  }

  // OK, or why it ended early. Not OK if nothing was counted.
  absl::Status status() const {
    if (counted_ > 0 || !status_.ok()) return status_;
    return absl::DeadlineExceededError(absl::StrCat(
        "nothing was measured: ", started_, " requests of the warm-up (--warmup ", options_.warmup,
        ") took all of the --duration, ", absl::FormatDuration(options_.duration)));
  }
  uint64_t counted() const { return counted_; }
  double seconds() const { return seconds_; }

 private:
  static double Seconds(Clock::time_point since) {
    return std::chrono::duration<double>(Clock::now() - since).count();
  }

  void Next(uint32_t slot, const Start& start) {
    if (!status_.ok() || started_ >= options_.warmup + options_.requests ||
        Seconds(first_) > absl::ToDoubleSeconds(options_.duration)) {
      return;
    }
    if (started_ == options_.warmup) begin_ = Clock::now();
    const bool counts = started_ >= options_.warmup;
    ++started_;
    ++in_flight_;
    calls_[slot] = start(slot, counts, [this, slot, counts, &start](absl::Status status) {
      --in_flight_;
      calls_[slot].reset();
      if (status.ok() && counts) ++counted_;
      if (!status.ok() && status_.ok()) status_ = std::move(status);
      options_.progress(absl::StrCat(started_, " requests"));
      Next(slot, start);
    });
  }

  Client& client_;
  const LoadOptions& options_;
  std::vector<std::optional<CallId>> calls_;  // of each slot, while in flight
  uint64_t started_ = 0;
  uint64_t counted_ = 0;
  uint32_t in_flight_ = 0;
  const Clock::time_point first_ = Clock::now();
  Clock::time_point begin_ = first_;  // of what counts
  double seconds_ = 0;
  absl::Status status_;
};

// Chunks of random records of layer 0, spread over the holders, in the order of the sequence. They
// stay open: a bench leaves nothing behind. All have the same records: how long a query takes does
// not depend on them.
absl::StatusOr<std::vector<VisibleChunk>> PublishRandom(Client& client,
                                                        const AttendLoadOptions& options,
                                                        ChunkPlacer& placement,
                                                        std::span<const std::byte> records) {
  std::vector<VisibleChunk> chunks;
  for (uint32_t first = 0; first < options.tokens; first += options.tokens_per_chunk()) {
    if (options.interrupted()) return absl::CancelledError("interrupted while publishing");
    const uint32_t tokens = std::min(options.tokens_per_chunk(), options.tokens - first);
    options.progress(absl::StrCat("publishing token ", first));
    const ChunkId id = placement.Draw(chunks.size());
    const absl::Status status =
        client.Publish({.chunk = id, .layers = 1, .tokens = tokens},
                       records.first(tokens * client.layout().record_bytes()), options.timeout);
    if (!status.ok()) return status;
    chunks.push_back({id, tokens});
  }
  return chunks;
}

absl::StatusOr<std::vector<QueryBuffers>> MakeSlots(QueryMemory& memory,
                                                    const AttendLoadOptions& options,
                                                    const Geometry& geometry,
                                                    std::mt19937_64& random) {
  std::vector<QueryBuffers> slots;
  for (uint32_t i = 0; i < options.concurrency; ++i) {
    auto slot = QueryBuffers::Create(memory, options.rows(), geometry, OutFormat::kBf16);
    if (!slot.ok()) return slot.status();
    const std::vector<Bf16> rows = RandomBf16(random, options.rows() * geometry.row_width());
    if (absl::Status s = memory.Write(slot->rows, rows.data()); !s.ok()) return s;
    slots.push_back(*slot);
  }
  return slots;
}

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
  if (absl::Status s = CheckAttendLoad(options, client.limits(), client.layout()); !s.ok())
    return s;
  // All that takes long comes before the first chunk: a daemon gives a client up that holds open
  // chunks and says nothing.
  std::mt19937_64 random(FreshSeed());
  auto placement = ChunkPlacer::Create(*client.table(), options.holders, random());
  if (!placement.ok()) return placement.status();
  const std::vector<std::byte> records =
      RandomRecords(random, client.layout(), options.tokens_per_chunk());
  const Geometry geometry = client.layout().geometry();
  const auto memory = QueryMemory::Create(options.device);
  if (!memory.ok()) return memory.status();
  const auto slots = MakeSlots(**memory, options, geometry, random);
  if (!slots.ok()) return slots.status();
  const auto chunks = PublishRandom(client, options, *placement, records);
  if (!chunks.ok()) return chunks.status();
  const QueryGroup group = {
      .tokens = options.query_tokens, .causal = options.query_tokens > 1, .chunks = *chunks};

  AttendLoadReport report;
  Samples samples;
  Driver driver(client, options);
  driver.Run([&](uint32_t index, bool counts, Driver::Done done) {
    AttendQuery query = {
        .layer = 0, .scale = 0.1352337788608801f, .heads = options.heads, .groups = {&group, 1}};
    (*slots)[index].Fill(**memory, options.rows(), &query);
    const Clock::time_point start = Clock::now();
    return client.StartAttend(
        query, options.timeout,
        [&, start, counts, done = std::move(done)](absl::StatusOr<AttendAnswer> answer) {
          // The caller has the answer when the device has merged it. With others in flight waiting
          // for it here would be what is measured.
          if (options.concurrency == 1) {
            if (absl::Status s = (*memory)->Finish(); !s.ok() && answer.ok()) answer = s;
          }
          if (answer.ok() && counts) {
            samples.Add(Microseconds(Clock::now() - start), *answer);
            report.bytes_sent += answer->bytes_sent;
            report.bytes_received += answer->bytes_received;
          }
          done(answer.status());
        });
  });
  report.stopped = driver.status();
  if (driver.counted() == 0) return report.stopped;
  report.chunks = static_cast<uint32_t>(chunks->size());
  report.requests = driver.counted();
  report.seconds = driver.seconds();
  report.rows = report.requests * options.rows();
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
  if (absl::Status s = CheckLoad(options, client.limits(), client.layout()); !s.ok()) return s;
  const Geometry geometry = client.layout().geometry();
  const std::vector<std::byte> payload(options.rows() * geometry.row_width() * sizeof(Bf16));
  const uint64_t reply_bytes =
      options.rows() * (geometry.latent_width * sizeof(Bf16) + sizeof(float));
  std::vector<EchoReport> reports;
  for (const NodeInfo& node : client.table()->nodes()) {
    EchoReport report;
    report.holder = {.node = node.id, .lane = 0};
    report.sent_bytes = payload.size();
    report.received_bytes = reply_bytes;
    std::vector<double> rtt;
    Driver driver(client, options);
    driver.Run([&](uint32_t, bool counts, Driver::Done done) {
      return client.StartEcho(
          report.holder, payload, reply_bytes, options.timeout,
          [&, counts, done = std::move(done)](const absl::StatusOr<HolderTiming>& timing) {
            if (timing.ok() && counts) rtt.push_back(static_cast<double>(timing->rtt_ns) * 1e-3);
            done(timing.status());
          });
    });
    report.stopped = driver.status();
    report.transports = client.TransportsTo(report.holder);
    report.requests = driver.counted();
    report.seconds = driver.seconds();
    report.rtt = PercentilesOf(std::move(rtt));
    if (report.requests > 0) reports.push_back(report);
    if (!report.stopped.ok() && reports.empty()) return report.stopped;
    if (!report.stopped.ok()) {
      reports.back().stopped = report.stopped;
      break;
    }
  }
  return reports;
}

}  // namespace latentd
