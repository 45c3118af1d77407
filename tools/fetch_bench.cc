#include "tools/fetch_bench.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/clock.h"
#include "kernels/rope.h"
#include "routing/layout_rope.h"
#include "tools/bench_data.h"
#include "tools/chunk_placer.h"
#include "tools/load_options.h"
#include "tools/text_table.h"
#include "transport/record_checksum.h"

namespace latentd {
namespace {

constexpr int32_t kShift = 1234;
constexpr uint32_t kChunkTokens = 2048;  // at most, of the context's chunks

// Chunks of a context, on their holders in turn.
struct Context {
  std::vector<ChunkId> chunks;
  uint32_t chunk_tokens = 0;  // of each
};

// The parts of `total` are whole and add up to it.
uint32_t Share(uint64_t total, uint64_t part, uint64_t parts) {
  return static_cast<uint32_t>(total * (part + 1) / parts - total * part / parts);
}

class Bench {
 public:
  Bench(Client& client, const FetchBenchOptions& options, uint64_t seed)
      : client_(client),
        options_(options),
        layers_(options.layers > 0 ? options.layers : client.layout().layers),
        random_(seed) {}

  // `tokens` tokens over the first `holders` nodes, sealed.
  absl::StatusOr<Context> Publish(uint32_t holders, uint32_t tokens) {
    auto placement = ChunkPlacer::Create(*client_.table(), holders, random_());
    if (!placement.ok()) return placement.status();
    Context context;
    const uint32_t each = (tokens + holders - 1) / holders;
    const uint32_t parts = (each + kChunkTokens - 1) / kChunkTokens;
    context.chunk_tokens = (each + parts - 1) / parts;
    const Layout& layout = client_.layout();
    // All have the same: how long a fetch takes does not depend on it.
    const std::vector<std::byte> records =
        RandomRecords(random_, layout, uint64_t{layout.layers} * context.chunk_tokens);
    const uint64_t checksum =
        RangeChecksum(records, layout.record_bytes(), 0, layout.layers, 0, context.chunk_tokens);
    for (uint32_t i = 0; i < parts * holders; ++i) {
      if (options_.interrupted()) return absl::CancelledError("interrupted while publishing");
      options_.progress(absl::StrCat("publishing chunk ", i + 1, " of ", parts * holders));
      const ChunkId id = placement->Draw(i);
      absl::Status s =
          client_.Publish({.chunk = id, .layers = layout.layers, .tokens = context.chunk_tokens},
                          records, options_.timeout);
      if (s.ok()) s = client_.Seal(id, context.chunk_tokens, checksum, options_.timeout);
      if (!s.ok()) return s;
      context.chunks.push_back(id);
    }
    return context;
  }

  // Fetches of tokens that lie together, an equal share of each holder, turned by `shift`.
  absl::StatusOr<FetchTiming> Contiguous(const Context& context, uint32_t holders, int32_t shift) {
    std::vector<CachePart> parts;
    std::vector<std::vector<TokenRun>> runs(context.chunks.size());
    // Chunk i is on holder i modulo holders.
    for (uint32_t holder = 0; holder < holders; ++holder) {
      uint32_t left = Share(options_.tokens, holder, holders);
      for (size_t i = holder; i < context.chunks.size() && left > 0; i += holders) {
        runs[i] = {{0, std::min(left, context.chunk_tokens)}};
        left -= runs[i][0].tokens;
        parts.push_back({context.chunks[i], shift, runs[i], 0, layers_});
      }
    }
    return Time(shift == 0 ? "contiguous" : "contiguous, spliced", [&] { return Fetch(parts); });
  }

  // Fetches of tokens that are drawn anew each time, in equal shares of the context's chunks.
  absl::StatusOr<FetchTiming> Selected(const Context& context) {
    std::vector<std::vector<TokenRun>> runs(context.chunks.size());
    std::vector<uint32_t> all(context.chunk_tokens);
    std::iota(all.begin(), all.end(), 0u);
    return Time("selected", [&] {
      std::vector<CachePart> parts;
      for (size_t i = 0; i < context.chunks.size(); ++i) {
        const uint32_t share = Share(options_.tokens, i, context.chunks.size());
        if (share == 0) continue;
        std::vector<uint32_t> some;
        std::sample(all.begin(), all.end(), std::back_inserter(some), share, random_);
        runs[i].clear();
        for (const uint32_t token : some) runs[i].push_back({token, 1});
        parts.push_back({context.chunks[i], 0, runs[i], 0, layers_});
      }
      return Fetch(parts);
    });
  }

  // Into a buffer of the caller's.
  absl::StatusOr<FetchTiming> Plain(const Context& context) {
    const uint32_t tokens = std::min(options_.tokens, context.chunk_tokens);
    std::vector<std::byte> records(uint64_t{layers_} * tokens * client_.layout().record_bytes());
    return Time("plain", [&]() -> absl::StatusOr<Fetched> {
      const uint64_t start_ns = SteadyNanos();
      const absl::Status s =
          client_.Fetch({.chunk = context.chunks[0], .layers = layers_, .tokens = tokens}, records,
                        options_.timeout);
      if (!s.ok()) return s;
      return Fetched{MicrosecondsSince(start_ns), records.size(), 0};
    });
  }

 private:
  struct Fetched {
    double us = 0;
    uint64_t bytes = 0;
    uint64_t requests = 0;
  };

  // Into an empty cache: holders are first asked how long the chunks are.
  absl::StatusOr<Fetched> Fetch(std::span<const CachePart> parts) {
    std::vector<ChunkId> ids;
    for (const CachePart& part : parts) ids.push_back(part.chunk);
    const uint64_t start_ns = SteadyNanos();
    const auto report = client_.FetchToCache(parts, options_.timeout);
    const double us = MicrosecondsSince(start_ns);
    client_.DropFromCache(ids);
    if (!report.ok()) return report.status();
    return Fetched{us, report->bytes, report->requests};
  }

  template <typename Once>
  absl::StatusOr<FetchTiming> Time(std::string what, const Once& once) {
    FetchTiming timing{.what = std::move(what)};
    std::vector<double> us;
    for (uint32_t i = 0; i < options_.warmup + options_.requests; ++i) {
      if (options_.interrupted()) return absl::CancelledError("interrupted");
      options_.progress(absl::StrCat(timing.what, " ", i + 1));
      const absl::StatusOr<Fetched> fetched = once();
      if (!fetched.ok()) return fetched.status();
      if (i < options_.warmup) continue;
      us.push_back(fetched->us);
      timing.bytes = fetched->bytes;
      timing.requests = fetched->requests;
    }
    timing.us = PercentilesOf(std::move(us));
    return timing;
  }

  Client& client_;
  const FetchBenchOptions& options_;
  const uint32_t layers_;
  std::mt19937_64 random_;
};

absl::StatusOr<uint64_t> CacheBytes(const FetchBenchOptions& options, const Layout& layout) {
  if (options.tokens > options.context) {
    return absl::InvalidArgumentError(
        absl::StrCat("--tokens ", options.tokens, " is more than --context ", options.context));
  }
  if (options.layers > layout.layers) {
    return absl::InvalidArgumentError(
        absl::StrCat("--layers ", options.layers, ": the layout has ", layout.layers));
  }
  // Selected tokens may touch every page, and the last page of each chunk is not full.
  const uint64_t chunks = options.context / kChunkTokens + 2 * options.holders;
  const uint64_t bytes = (options.context / kPageTokens + 2 * chunks) * layout.page_bytes();
  if (bytes > kMaxLoadBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("--context ", options.context, " takes a cache of ", bytes,
                     " bytes, all layers of it; at most ", kMaxLoadBytes, " are used"));
  }
  return bytes;
}

}  // namespace

absl::StatusOr<FetchReport> MeasureFetch(const FetchBenchOptions& options) {
  FetchReport report;
  {
    auto asked = options.connect(0);
    if (!asked.ok()) return asked.status();
    report.layout = (*asked)->layout();
  }
  const absl::StatusOr<uint64_t> bytes = CacheBytes(options, report.layout);
  if (!bytes.ok()) return bytes.status();
  report.cache_bytes = *bytes;
  auto client = options.connect(*bytes);
  if (!client.ok()) return client.status();

  Bench bench(**client, options, FreshSeed());
  const auto add = [&](absl::StatusOr<FetchTiming> timing, uint32_t holders) {
    if (!timing.ok()) return timing.status();
    timing->holders = holders;
    report.timings.push_back(*std::move(timing));
    return absl::OkStatus();
  };
  std::vector<uint32_t> counts = {1};
  if (options.holders > 1) counts.push_back(options.holders);
  for (const uint32_t holders : counts) {
    const auto context = bench.Publish(holders, options.context);
    if (!context.ok()) return context.status();
    if (holders == 1) {
      if (absl::Status s = add(bench.Plain(*context), 1); !s.ok()) return s;
    }
    if (absl::Status s = add(bench.Contiguous(*context, holders, 0), holders); !s.ok()) return s;
    if (CheckShift(RopeOf(report.layout), kShift).ok()) {
      if (absl::Status s = add(bench.Contiguous(*context, holders, kShift), holders); !s.ok())
        return s;
    }
    if (absl::Status s = add(bench.Selected(*context), holders); !s.ok()) return s;
  }
  const auto& nodes = (*client)->table()->nodes();
  report.transports = (*client)->TransportsTo({.node = nodes.front().id, .lane = 0});
  return report;
}

std::string FetchText(const FetchReport& report) {
  TextTable table({"fetch", ">holders", ">bytes", ">requests", ">p50 us", ">p90 us", ">GB/s",
                   ">to contiguous"});
  for (const FetchTiming& timing : report.timings) {
    table.Add({timing.what, absl::StrCat(timing.holders),
               HumanBytes(static_cast<double>(timing.bytes)),
               timing.requests > 0 ? absl::StrCat(timing.requests) : "", Fixed(timing.us.p50, 0),
               Fixed(timing.us.p90, 0), Fixed(timing.GigabytesPerSecond(), 2),
               Fixed(timing.us.p50 / report.timings[1].us.p50, 2)});
  }
  return absl::StrCat(ToString(report.layout), "; ", report.transports, "; a cache of ",
                      HumanBytes(static_cast<double>(report.cache_bytes)), "\n", table.ToString());
}

nlohmann::json FetchJson(const FetchReport& report) {
  nlohmann::json timings = nlohmann::json::array();
  for (const FetchTiming& timing : report.timings) {
    timings.push_back({{"fetch", timing.what},
                       {"holders", timing.holders},
                       {"bytes", timing.bytes},
                       {"requests", timing.requests},
                       {"p50_us", timing.us.p50},
                       {"p90_us", timing.us.p90},
                       {"p99_us", timing.us.p99},
                       {"to_contiguous", timing.us.p50 / report.timings[1].us.p50}});
  }
  return {{"layout", ToString(report.layout)},
          {"transports", report.transports},
          {"cache_bytes", report.cache_bytes},
          {"fetches", std::move(timings)}};
}

}  // namespace latentd
