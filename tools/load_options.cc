#include "tools/load_options.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/mla.h"
#include "tools/text_table.h"

namespace latentd {
namespace {

std::string Bytes(uint64_t bytes) { return HumanBytes(static_cast<double>(bytes)); }

uint64_t QueryBytes(const LoadOptions& options, const Layout& layout) {
  return options.rows() * layout.geometry().row_width() * sizeof(Bf16);
}
uint64_t AnswerBytes(const LoadOptions& options, const Layout& layout) {
  return options.rows() * (layout.geometry().latent_width * sizeof(Bf16) + sizeof(float));
}

std::string Request(const LoadOptions& options) {
  return absl::StrCat("--query-tokens ", options.query_tokens, " of --heads ", options.heads);
}

absl::Status CheckMemory(uint64_t bytes) {
  if (bytes <= kMaxLoadBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "this load would take ", Bytes(bytes), " of this machine's memory, more than ",
      Bytes(kMaxLoadBytes), ": lower --query-tokens, --heads, --concurrency or --chunk-tokens"));
}

}  // namespace

uint32_t AttendLoadOptions::tokens_per_chunk() const {
  const uint64_t per_holder = (uint64_t{tokens} + holders - 1) / holders;
  return static_cast<uint32_t>(std::clamp<uint64_t>(per_holder, 1, chunk_tokens));
}

uint32_t AttendLoadOptions::chunks() const { return (tokens - 1) / tokens_per_chunk() + 1; }

absl::Status CheckLoad(const LoadOptions& options, const SessionLimits& limits,
                       const Layout& layout) {
  if (options.rows() > limits.rows_per_request) {
    return absl::InvalidArgumentError(absl::StrCat(
        Request(options), " are ", options.rows(), " rows a request; the daemon takes ",
        limits.rows_per_request, " (its data.limits.rows_per_request)"));
  }
  const uint64_t query = QueryBytes(options, layout);
  const uint64_t answer = AnswerBytes(options, layout);
  if (std::max(query, answer) > limits.payload_bytes_per_request) {
    return absl::InvalidArgumentError(
        absl::StrCat(Request(options), " are ", Bytes(std::max(query, answer)),
                     " a message; the daemon takes ", Bytes(limits.payload_bytes_per_request)));
  }
  if (options.concurrency > limits.inflight_requests) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--concurrency ", options.concurrency, ": the daemon takes ", limits.inflight_requests,
        " requests of a session at a time (its data.limits.inflight_per_session)"));
  }
  const uint64_t in_flight = options.concurrency * (query + answer);
  if (in_flight > limits.inflight_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--concurrency ", options.concurrency, " of ", Bytes(query + answer), " each are ",
        Bytes(in_flight), " in flight; the daemon takes ", Bytes(limits.inflight_bytes),
        " of a session (its data.limits.inflight_bytes_per_session)"));
  }
  return CheckMemory(in_flight);
}

absl::Status CheckAttendLoad(const AttendLoadOptions& options, const SessionLimits& limits,
                             const Layout& layout) {
  if (absl::Status s = CheckLoad(options, limits, layout); !s.ok()) return s;
  const uint64_t per_holder = (uint64_t{options.chunks()} + options.holders - 1) / options.holders;
  if (per_holder > limits.chunks_per_request) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--tokens ", options.tokens, " in chunks of ", options.tokens_per_chunk(), " on ",
        options.holders, " nodes are ", per_holder, " chunks a request; the daemon takes ",
        limits.chunks_per_request, " (its data.limits.chunks_per_request): raise --chunk-tokens"));
  }
  const uint64_t in_flight =
      options.concurrency * (QueryBytes(options, layout) + AnswerBytes(options, layout));
  // The records of one chunk, and the values that they are made of.
  const uint64_t record_bytes =
      layout.record_bytes() + layout.geometry().row_width() * sizeof(Bf16);
  return CheckMemory(in_flight + uint64_t{options.tokens_per_chunk()} * record_bytes);
}

}  // namespace latentd
