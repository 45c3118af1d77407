#include "client/pair_probe.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/clock.h"
#include "routing/robust_stats.h"

namespace latentd {
namespace {

// Messages of one size come in runs, since a single one behind others of another size finds cold
// memory; runs of all sizes come in turn, so that what disturbs the machine for a while disturbs
// them alike.
constexpr uint32_t kRunWarmup = 2;
constexpr uint32_t kRun = 8;
constexpr uint32_t kPieces = 16;

std::vector<uint64_t> SizesFor(const SessionLimits& limits, std::vector<uint64_t> sizes) {
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  const uint64_t most = std::min(limits.payload_bytes_per_request, limits.inflight_bytes);
  std::erase_if(sizes, [&](uint64_t bytes) { return bytes > most; });
  return sizes;
}

// Times `call`, of so many bytes, a run at a time.
template <typename Call>
absl::Status TimeRun(const Call& call, uint32_t counted, uint64_t bytes,
                     const PairProbeOptions& options, std::vector<LinkSample>& samples) {
  for (uint32_t i = 0; i < kRunWarmup + counted; ++i) {
    if (options.interrupted()) return absl::CancelledError("interrupted");
    const uint64_t start_ns = SteadyNanos();
    if (absl::Status s = call(); !s.ok()) return s;
    if (i >= kRunWarmup) samples.push_back({bytes, MicrosecondsSince(start_ns)});
  }
  return absl::OkStatus();
}

// How many calls of a run count, and how many runs there are, within the bound on bytes.
struct Runs {
  uint32_t runs = 1;
  uint32_t counted = kRun;
};

Runs RunsFor(const PairProbeOptions& options, uint64_t bytes_of_each) {
  const uint64_t affordable = options.most_bytes / std::max<uint64_t>(bytes_of_each, 1);
  Runs runs;
  runs.counted = static_cast<uint32_t>(
      std::clamp<uint64_t>(affordable, kRunWarmup + 1, kRunWarmup + kRun) - kRunWarmup);
  const uint64_t wanted = (uint64_t{options.repeats} + kRun - 1) / kRun;
  runs.runs = static_cast<uint32_t>(
      std::clamp<uint64_t>(affordable / (kRunWarmup + kRun), 1, std::max<uint64_t>(wanted, 1)));
  return runs;
}

}  // namespace

absl::StatusOr<LinkTimings> TimeLink(Client& client, const Holder& holder,
                                     const PairProbeOptions& options) {
  const std::vector<uint64_t> sizes = SizesFor(client.limits(), options.sizes);
  if (sizes.size() < 2) {
    return absl::InvalidArgumentError(absl::StrCat("link probe: ", sizes.size(),
                                                   " sizes that the daemon takes in one message, ",
                                                   "expected 2 or more"));
  }
  uint64_t bytes_of_each = 0;
  for (const uint64_t bytes : sizes) bytes_of_each += 2 * bytes;
  const Runs runs = RunsFor(options, bytes_of_each);
  const std::vector<std::byte> payload(sizes.back());
  LinkTimings timings;
  for (uint32_t run = 0; run < runs.runs; ++run) {
    for (const uint64_t bytes : sizes) {
      const auto send = [&] {
        return client.Echo(holder, std::span(payload).first(bytes), 0, options.timeout).status();
      };
      const auto receive = [&] { return client.Echo(holder, {}, bytes, options.timeout).status(); };
      if (auto s = TimeRun(send, runs.counted, bytes, options, timings.out); !s.ok()) return s;
      if (auto s = TimeRun(receive, runs.counted, bytes, options, timings.in); !s.ok()) return s;
    }
  }
  return timings;
}

absl::StatusOr<PairConstants> FitPair(absl::string_view holder, const LinkTimings& timings) {
  const absl::StatusOr<LinkFit> out = FitLink(timings.out);
  if (!out.ok()) return out.status();
  const absl::StatusOr<LinkFit> in = FitLink(timings.in);
  if (!in.ok()) return in.status();
  // A round trip that has bytes both ways is fixed once, and what large messages pay on top (they
  // are announced first) once for each way.
  std::vector<double> least;
  const uint64_t least_bytes = std::min(timings.out.front().bytes, timings.in.front().bytes);
  for (const auto* samples : {&timings.out, &timings.in}) {
    for (const LinkSample& sample : *samples) {
      if (sample.bytes == least_bytes) least.push_back(sample.us);
    }
  }
  const double empty_us = Median(std::move(least));
  const double probe_us = std::max(out->fixed_us + in->fixed_us - empty_us, empty_us / 2);
  PairConstants pair;
  pair.probe_us = MeasuredConstant<ConstantKind::kProbe>(probe_us);
  pair.out_bytes_per_us = MeasuredConstant<ConstantKind::kBandwidth>(out->bandwidth_bytes_per_us);
  pair.in_bytes_per_us = MeasuredConstant<ConstantKind::kBandwidth>(in->bandwidth_bytes_per_us);
  if (absl::Status s = Vet(holder, pair); !s.ok()) return s;
  return pair;
}

absl::StatusOr<FetchTimings> TimeFetch(Client& client, const ChunkRange& range,
                                       const PairProbeOptions& options) {
  const uint64_t token_bytes = client.layout().record_bytes() * range.layers;
  std::vector<std::byte> records(range.tokens * token_bytes);
  const Runs runs = RunsFor(options, 3 * records.size());
  FetchTimings timings;
  timings.ranges = std::min(kPieces, range.tokens);
  for (uint32_t run = 0; run < runs.runs; ++run) {
    for (const uint32_t part : {8u, 4u, 2u, 1u}) {
      ChunkRange some = range;
      some.tokens = range.tokens / part;
      const uint64_t bytes = some.tokens * token_bytes;
      const auto fetch = [&] {
        return client.Fetch(some, std::span(records).first(bytes), options.timeout);
      };
      if (auto s = TimeRun(fetch, runs.counted, bytes, options, timings.whole); !s.ok()) return s;
    }
    const uint32_t piece_tokens = range.tokens / timings.ranges;
    timings.pieces_bytes = timings.ranges * piece_tokens * token_bytes;
    const auto fetch_pieces = [&] {
      uint32_t waiting = timings.ranges;
      absl::Status failed;
      for (uint32_t i = 0; i < timings.ranges; ++i) {
        ChunkRange piece = range;
        piece.first_token = range.first_token + i * piece_tokens;
        piece.tokens = piece_tokens;
        const uint64_t bytes = piece_tokens * token_bytes;
        client.StartFetch(piece, std::span(records).subspan(i * bytes, bytes), options.timeout,
                          [&](absl::Status status) {
                            --waiting;
                            if (!status.ok()) failed = std::move(status);
                          });
      }
      client.RunUntil([&] { return waiting == 0; });
      return failed;
    };
    std::vector<LinkSample> pieces;
    if (auto s = TimeRun(fetch_pieces, runs.counted, 0, options, pieces); !s.ok()) return s;
    for (const LinkSample& sample : pieces) timings.pieces_us.push_back(sample.us);
  }
  return timings;
}

absl::Status FitFetch(absl::string_view holder, const FetchTimings& timings, PairConstants& pair,
                      Constant<ConstantKind::kCopyRate>& copy) {
  const absl::StatusOr<LinkFit> fit = FitLink(timings.whole);
  if (!fit.ok()) return fit.status();
  if (timings.ranges < 2 || timings.pieces_us.empty()) {
    return absl::InvalidArgumentError("fetch timings: none of several ranges");
  }
  PairConstants fitted = pair;
  fitted.handshake_us = MeasuredConstant<ConstantKind::kHandshake>(fit->fixed_us);
  const double wire_us_per_byte = 1 / pair.in_bytes_per_us.Usable();
  const double us_per_byte = 1 / fit->bandwidth_bytes_per_us;
  // A wire that is quicker in a fetch than in single messages is taken as it is there.
  const double copy_us_per_byte = std::max(us_per_byte - wire_us_per_byte, wire_us_per_byte / 100);
  fitted.staged_fetch = true;
  const double in_one_us = fit->fixed_us + us_per_byte * static_cast<double>(timings.pieces_bytes);
  const double range_us = (Median(timings.pieces_us) - in_one_us) / (timings.ranges - 1);
  // Ranges that are asked for at once may well be quicker than one.
  fitted.range_us = MeasuredConstant<ConstantKind::kRange>(
      std::max(range_us, RuleOf(ConstantKind::kRange).least));
  if (absl::Status s = Vet(holder, fitted); !s.ok()) return s;
  pair = fitted;
  copy = MeasuredConstant<ConstantKind::kCopyRate>(1 / copy_us_per_byte);
  return absl::OkStatus();
}

}  // namespace latentd
