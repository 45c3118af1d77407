#include "daemon/calibration/calibrator.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/client.h"
#include "client/pair_probe.h"
#include "daemon/lane/steady_time.h"
#include "daemon/process/log.h"

namespace latentd {
namespace {

// More links than that and their owner's entry at etcd would be large.
constexpr size_t kMostLinks = 64;
// How often it is looked whether peers have come or restarted.
constexpr absl::Duration kLookEvery = absl::Seconds(2);
constexpr uint64_t kBytesPerLink = uint64_t{32} << 20;
// Other work on the machines may hide what bytes cost.
constexpr int kTriesPerLink = 3;

absl::Duration PeriodOf(const CalibratorOptions& options) {
  return options.period > absl::ZeroDuration() ? options.period : absl::InfiniteDuration();
}

}  // namespace

Calibrator::Calibrator(CalibratorOptions options, std::vector<Lane*> lanes, Membership* membership,
                       ListPeers peers)
    : options_(std::move(options)),
      lanes_(std::move(lanes)),
      membership_(membership),
      peers_(std::move(peers)),
      ledger_(options_.self, options_.generation, options_.format, PeriodOf(options_)),
      schedule_(options_.self, PeriodOf(options_), kMostLinks) {}

Calibrator::~Calibrator() { Stop(); }

void Calibrator::Start() {
  const absl::Time first =
      SteadyNow() + (options_.at_start ? options_.start_after : PeriodOf(options_));
  for (Round& round : rounds_) round.due = first;
  threads_.emplace_back([this] { Run(kCompute); });
  threads_.emplace_back([this] { Run(kLinks); });
}

void Calibrator::Stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

absl::Status Calibrator::Now(bool compute, bool links) {
  std::unique_lock<std::mutex> lock(mutex_);
  std::array<uint64_t, kParts> ticket{};
  if (compute) ticket[kCompute] = ++rounds_[kCompute].asked;
  if (links) ticket[kLinks] = ++rounds_[kLinks].asked;
  changed_.notify_all();
  const auto done = [&] {
    return rounds_[kCompute].done >= ticket[kCompute] && rounds_[kLinks].done >= ticket[kLinks];
  };
  changed_.wait(lock, [&] { return stopping_ || done(); });
  return done() ? absl::OkStatus() : absl::CancelledError("the daemon stops");
}

CalibrationStatus Calibrator::status() const {
  CalibrationStatus status{.links = ledger_.links()};
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const Round& round : rounds_) status.under_way |= round.under_way;
  status.lanes_measured = lanes_measured_;
  status.failures = failures_;
  for (const auto& [of, why] : troubles_) status.troubles.push_back(absl::StrCat(of, ": ", why));
  return status;
}

void Calibrator::Run(Part part) {
  while (!AwaitRound(part)) {
    if (part == kCompute) {
      MeasureLanes();
    } else {
      MeasureLinks();
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    Round& round = rounds_[part];
    round.under_way = false;
    // Lanes that were asked for meanwhile were hurried; links have to be timed again.
    round.done = part == kCompute ? round.asked : round.begun;
    round.due = SteadyNow() + (part == kCompute ? PeriodOf(options_) : kLookEvery);
    changed_.notify_all();
  }
}

bool Calibrator::AwaitRound(Part part) {
  std::unique_lock<std::mutex> lock(mutex_);
  Round& round = rounds_[part];
  while (!stopping_ && round.asked == round.done && SteadyNow() < round.due) {
    // A wait of a year or more overflows.
    const absl::Duration wait = std::min(round.due - SteadyNow(), absl::Hours(1));
    changed_.wait_for(lock, absl::ToChronoMicroseconds(wait));
  }
  round.begun = round.asked;
  round.under_way = part == kCompute || round.begun != round.done;
  return stopping_;
}

bool Calibrator::Rest(Part part, absl::Duration time) {
  std::unique_lock<std::mutex> lock(mutex_);
  const Round& round = rounds_[part];
  changed_.wait_for(lock, absl::ToChronoMicroseconds(time),
                    [&] { return stopping_ || round.asked != round.done; });
  return stopping_;
}

bool Calibrator::BackOff(absl::Duration time) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait_for(lock, absl::ToChronoMicroseconds(time), [&] { return stopping_; });
  return stopping_;
}

bool Calibrator::stopping() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return stopping_;
}

void Calibrator::Trouble(const std::string& of, const absl::Status& status) {
  bool is_new = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (status.ok()) {
      troubles_.erase(of);
      return;
    }
    ++failures_;
    std::string why(status.message());
    std::string& known = troubles_[of];
    is_new = known != why;
    known = std::move(why);
  }
  if (!is_new) return;
  LogWarn("not measured", {{"what", of}, {"reason", std::string(status.message())}});
}

// One after the other: the newest is the last that the membership is given.
void Calibrator::Publish() {
  const std::lock_guard<std::mutex> lock(publish_);
  membership_->PublishCosts(ledger_.message());
}

void Calibrator::MeasureLanes() {
  bool all = true;
  for (Lane* lane : lanes_) {
    const uint32_t index = lane->options().index;
    const absl::Time began = SteadyNow();
    std::unique_lock<std::mutex> quiet(quiet_);
    const auto tables = SurveyLane(*lane, options_.lanes, [&](Pause pause, absl::Duration time) {
      quiet.unlock();
      const bool end = pause == Pause::kRest ? Rest(kCompute, time) : BackOff(time);
      quiet.lock();
      return end;
    });
    quiet.unlock();
    if (stopping()) return;
    Trouble(absl::StrCat("lane ", index), tables.ok() ? tables->trouble : tables.status());
    all &= tables.ok();
    if (!tables.ok()) continue;
    ledger_.SetLane(index, *tables, absl::Now());
    Publish();
    LogInfo("lane measured",
            {{"lane", index},
             {"points", tables->points},
             {"us_512_rows_2048_tokens", static_cast<int64_t>(tables->latency.UsAt(512, 2048))},
             {"took_ms", absl::ToInt64Milliseconds(SteadyNow() - began)}});
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  if (all) lanes_measured_ = absl::Now();
}

void Calibrator::MeasureLinks() {
  if (options_.link_bytes_per_s == 0) {
    Trouble("links", absl::FailedPreconditionError("calibration.link_rate is 0: none is timed"));
    return;
  }
  for (const NodeId& gone : schedule_.SetPeers(peers_(), SteadyNow())) {
    ledger_.DropLink(gone);
    Trouble(absl::StrCat("link to ", gone), absl::OkStatus());
    Publish();
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (rounds_[kLinks].begun != rounds_[kLinks].done) schedule_.MakeAllDue(SteadyNow());
  }
  // What is due now; what fails meanwhile is tried in a later round.
  const absl::Time now = SteadyNow();
  while (const auto peer = schedule_.Due(now)) {
    const absl::Status measured = MeasureLink(*peer);
    if (stopping()) return;
    Trouble(absl::StrCat("link to ", peer->id), measured);
    if (measured.ok()) {
      schedule_.Timed(peer->id, SteadyNow());
      Publish();
    } else {
      schedule_.Failed(peer->id, SteadyNow());
    }
    const double seconds =
        static_cast<double>(kBytesPerLink) / static_cast<double>(options_.link_bytes_per_s);
    if (Rest(kLinks, absl::Seconds(seconds))) return;
  }
}

absl::Status Calibrator::MeasureLink(const LinkPeer& peer) {
  ClientOptions options{.endpoints = {peer.control_address},
                        .client_name = absl::StrCat("node ", options_.self, ", measuring"),
                        .tls = options_.tls,
                        .transports = options_.transports,
                        .connect_timeout = absl::Seconds(1)};
  const auto client = Client::Connect(std::move(options));
  if (!client.ok()) return client.status();
  LinkTimings all;
  absl::StatusOr<PairConstants> pair;
  for (int tried = 0; tried < kTriesPerLink; ++tried) {
    const std::lock_guard<std::mutex> quiet(quiet_);
    const auto timings = TimeLink(**client, {.node = peer.id},
                                  {.sizes = {0, 4096, 16384, 65536, 262144, 1048576},
                                   .most_bytes = kBytesPerLink,
                                   .timeout = absl::Seconds(2),
                                   .interrupted = [this] { return stopping(); }});
    if (!timings.ok()) return timings.status();
    all.out.insert(all.out.end(), timings->out.begin(), timings->out.end());
    all.in.insert(all.in.end(), timings->in.begin(), timings->in.end());
    pair = FitPair(peer.id, all);
    if (!absl::IsFailedPrecondition(pair.status())) break;
  }
  if (!pair.ok()) return pair.status();
  ledger_.SetLink({.peer = peer.id,
                   .peer_generation = peer.generation,
                   .measured = absl::Now(),
                   .constants = *pair});
  LogInfo("link measured", {{"peer", peer.id},
                            {"probe_us", pair->probe_us.value},
                            {"out_bytes_per_us", pair->out_bytes_per_us.value},
                            {"in_bytes_per_us", pair->in_bytes_per_us.value}});
  return absl::OkStatus();
}

}  // namespace latentd
