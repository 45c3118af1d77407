#include "tools/fanin.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <span>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cost_view.h"
#include "routing/robust_stats.h"
#include "tools/attend_probe.h"
#include "tools/predictions.h"

namespace latentd {
namespace {

using Clock = std::chrono::steady_clock;

struct Requester {
  std::unique_ptr<Client> client;
  std::vector<Bf16> rows;
  std::vector<std::byte> out;
  std::vector<float> lse;
  Clock::time_point start;
};

struct Samples {
  std::vector<double> latency_us;
  std::vector<double> queue_us;
  double batch_rows = 0;
};

// The requesters of one thread, each asking again as soon as it is answered, until every thread has
// what it wants.
class Crowd {
 public:
  // `unfinished`: threads that have not.
  Crowd(std::span<Requester> requesters, uint32_t threads, const VisibleChunk& chunk,
        const FaninOptions& options, std::atomic<uint32_t>& unfinished)
      : requesters_(requesters), chunk_(chunk), options_(options), unfinished_(unfinished) {
    const auto count = static_cast<uint32_t>(requesters.size());
    // What each one waits is only its own once all are under way.
    warmup_ = std::max(options.warmup / threads, 2 * count);
    wanted_ = std::max(options.requests / threads, 2 * count);
  }

  void Run() {
    for (uint32_t i = 0; i < requesters_.size(); ++i) Ask(i);
    while (in_flight_ > 0) {
      for (Requester& one : requesters_) one.client->Progress();
      if (options_.interrupted() && status_.ok()) status_ = absl::CancelledError("interrupted");
    }
    if (samples_.latency_us.size() < wanted_) --unfinished_;
  }

  const absl::Status& status() const { return status_; }

  const Samples& samples() const { return samples_; }
  double per_second() const {
    const std::chrono::duration<double> span = last_ - first_;
    return span.count() > 0 ? static_cast<double>(samples_.latency_us.size()) / span.count() : 0;
  }

 private:
  void Ask(uint32_t index) {
    Requester& one = requesters_[index];
    const uint32_t heads = HeadsOf(options_.rows);
    const QueryGroup group = {.tokens = options_.rows / heads, .chunks = {&chunk_, 1}};
    const AttendQuery query = {.layer = 0,
                               .scale = kProbeScale,
                               .heads = heads,
                               .groups = {&group, 1},
                               .rows = one.rows,
                               .out = one.out,
                               .lse = one.lse};
    ++in_flight_;
    one.start = Clock::now();
    one.client->StartAttend(
        query, options_.timeout,
        [this, index](const absl::StatusOr<AttendAnswer>& answer) { Answered(index, answer); });
  }

  void Answered(uint32_t index, const absl::StatusOr<AttendAnswer>& answer) {
    --in_flight_;
    if (!answer.ok()) {
      if (status_.ok()) status_ = answer.status();
      return;
    }
    const Clock::time_point now = Clock::now();
    ++answered_;
    if (answered_ == warmup_) first_ = now;
    if (answered_ > warmup_) {
      last_ = now;
      const std::chrono::duration<double, std::micro> us = now - requesters_[index].start;
      samples_.latency_us.push_back(us.count());
      const HolderTiming& holder = answer->holders.front();
      samples_.queue_us.push_back(static_cast<double>(holder.queue_ns) * 1e-3);
      samples_.batch_rows += holder.batch_rows;
      if (samples_.latency_us.size() == wanted_) --unfinished_;
    }
    if (status_.ok() && unfinished_ > 0) Ask(index);
  }

  const std::span<Requester> requesters_;
  const VisibleChunk chunk_;
  const FaninOptions& options_;
  std::atomic<uint32_t>& unfinished_;
  uint32_t warmup_ = 0;
  uint32_t wanted_ = 0;
  uint32_t in_flight_ = 0;
  uint32_t answered_ = 0;
  Samples samples_;
  Clock::time_point first_;
  Clock::time_point last_;
  absl::Status status_;
};

absl::StatusOr<std::vector<Requester>> Connect(const FaninOptions& options) {
  std::vector<Requester> requesters(options.most_requesters);
  for (Requester& one : requesters) {
    if (options.interrupted()) return absl::CancelledError("interrupted");
    auto client = options.connect();
    if (!client.ok()) return client.status();
    one.client = *std::move(client);
    const Geometry geometry = one.client->layout().geometry();
    one.rows.resize(uint64_t{options.rows} * geometry.row_width());
    one.out.resize(uint64_t{options.rows} * geometry.latent_width * sizeof(Bf16));
    one.lse.resize(options.rows);
  }
  return requesters;
}

struct Measured {
  Samples samples;
  double per_second = 0;
};

// `requesters` of them, dealt out to at most options.threads threads.
absl::StatusOr<Measured> Measure(std::span<Requester> requesters, const VisibleChunk& chunk,
                                 const FaninOptions& options) {
  const uint32_t count = static_cast<uint32_t>(requesters.size());
  const uint32_t threads = std::clamp(options.threads, 1u, count);
  std::atomic<uint32_t> unfinished = threads;
  std::vector<std::unique_ptr<Crowd>> crowds;
  for (uint32_t i = 0; i < threads; ++i) {
    const uint32_t first = count * i / threads;
    crowds.push_back(
        std::make_unique<Crowd>(requesters.subspan(first, count * (i + 1) / threads - first),
                                threads, chunk, options, unfinished));
  }
  std::vector<std::thread> running;
  for (const auto& crowd : crowds) running.emplace_back([&crowd] { crowd->Run(); });
  for (std::thread& thread : running) thread.join();
  Measured all;
  for (const auto& crowd : crowds) {
    if (!crowd->status().ok()) return crowd->status();
    const Samples& some = crowd->samples();
    all.samples.latency_us.insert(all.samples.latency_us.end(), some.latency_us.begin(),
                                  some.latency_us.end());
    all.samples.queue_us.insert(all.samples.queue_us.end(), some.queue_us.begin(),
                                some.queue_us.end());
    all.samples.batch_rows += some.batch_rows;
    all.per_second += crowd->per_second();
  }
  return all;
}

FaninPoint Predicted(const Layout& layout, const Calibration& calibration, uint32_t requesters,
                     const FaninOptions& options, const Measured& measured) {
  const PredictionCase at = {.rows = options.rows, .tokens = options.tokens};
  PlanHolder holder = calibration.Holders().front();
  const Samples& samples = measured.samples;
  FaninPoint point = {.requesters = requesters};
  point.predicted_us = PredictFaninUs(layout, holder, calibration.requester, at, requesters);
  point.latency = PercentilesOf(samples.latency_us);
  point.per_second = measured.per_second;
  point.queue_us = Median(samples.queue_us);
  point.mean_batch_rows = samples.batch_rows / static_cast<double>(samples.latency_us.size());
  holder.load.queue_us = MeasuredConstant<ConstantKind::kQueue>(point.queue_us);
  point.from_reports_us = PredictRoute(layout, {&holder, 1}, calibration.requester, at).layer_us;
  return point;
}

}  // namespace

absl::StatusOr<FaninReport> MeasureFanin(const FaninOptions& wanted) {
  FaninOptions options = wanted;
  // Beyond its grid a table is careful rather than right.
  if (options.tokens > options.fit.tokens.back()) options.fit.tokens.push_back(options.tokens);
  auto requesters = Connect(options);
  if (!requesters.ok()) return requesters.status();
  Client& first = *requesters->front().client;
  const uint32_t most_rows = std::max(options.rows, options.fit.rows.back());
  const uint32_t most_tokens = std::max(options.tokens, options.fit.tokens.back());
  auto probe = AttendProbe::Create(first, {.holders = 1,
                                           .most_rows = most_rows,
                                           .most_tokens = most_tokens,
                                           .layers = first.layout().layers,
                                           .timeout = options.timeout,
                                           .interrupted = options.interrupted});
  if (!probe.ok()) return probe.status();
  LocalAttention local(first.layout(), most_rows, most_tokens, options.local_threads);
  CalibrationSamples samples;
  for (uint32_t round = 0; round < options.rounds; ++round) {
    options.progress(absl::StrCat("calibrating, round ", round + 1, " of ", options.rounds));
    if (auto s = AddSamples(*probe, local, options.fit, samples); !s.ok()) return s;
  }
  const auto calibration = Calibrate(first.layout(), probe->nodes(), samples);
  if (!calibration.ok()) return calibration.status();
  FaninReport report = {.rows = options.rows,
                        .tokens = options.tokens,
                        .threads = options.threads,
                        .transports = first.TransportsTo(probe->holder(0))};
  const VisibleChunk chunk = {.id = probe->chunk(0), .visible_tokens = options.tokens};
  for (uint32_t count = 1; count <= options.most_requesters; count *= 2) {
    options.progress(absl::StrCat(count, " requesters"));
    const auto measured = Measure(std::span(*requesters).first(count), chunk, options);
    if (!measured.ok()) return measured.status();
    report.points.push_back(Predicted(first.layout(), *calibration, count, options, *measured));
  }
  return report;
}

}  // namespace latentd
