#include "daemon/services/chunk_listing.h"

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "daemon/lane/lane.h"

namespace latentd {
namespace {

// Shared with the lanes' callbacks, which may come after the caller gave up.
struct Answers {
  explicit Answers(size_t lanes) : listings(lanes) {}

  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::optional<ChunkListing>> listings;
};

v1::Chunk ToProto(const ChunkInfo& chunk, uint32_t lane) {
  v1::Chunk message;
  message.set_id(ToString(chunk.id));
  message.set_lane(lane);
  message.set_sealed(chunk.sealed);
  message.set_tokens(chunk.tokens);
  message.set_pages(chunk.pages);
  message.set_leases(chunk.leases);
  message.set_idle_ms(static_cast<uint64_t>(absl::ToInt64Milliseconds(chunk.idle)));
  message.set_checksum(chunk.checksum);
  return message;
}

absl::Status Check(const v1::ChunksRequest& request) {
  if (request.limit() > kMaxChunkListing) {
    return absl::InvalidArgumentError(
        absl::StrCat("limit: ", request.limit(), ", at most ", kMaxChunkListing));
  }
  const std::string& prefix = request.prefix();
  const bool hexadecimal = std::all_of(prefix.begin(), prefix.end(),
                                       [](unsigned char c) { return absl::ascii_isxdigit(c); });
  if (!hexadecimal || prefix.size() > 32) {
    return absl::InvalidArgumentError(
        absl::StrCat("prefix: \"", prefix, "\" is not at most 32 hexadecimal digits"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::ChunksResponse> ListChunks(const std::vector<Lane*>& lanes,
                                              const v1::ChunksRequest& request,
                                              absl::Duration patience) {
  if (absl::Status checked = Check(request); !checked.ok()) return checked;
  const uint32_t limit = request.limit() == 0 ? kDefaultChunkListing : request.limit();
  const std::string prefix = absl::AsciiStrToLower(request.prefix());

  const auto answers = std::make_shared<Answers>(lanes.size());
  for (size_t i = 0; i < lanes.size(); ++i) {
    lanes[i]->ListChunks(prefix, limit, [answers, i](ChunkListing listing) {
      const std::lock_guard<std::mutex> lock(answers->mutex);
      answers->listings[i] = std::move(listing);
      answers->changed.notify_all();
    });
  }
  std::unique_lock<std::mutex> lock(answers->mutex);
  const auto missing = [&] {
    return std::find(answers->listings.begin(), answers->listings.end(), std::nullopt);
  };
  answers->changed.wait_for(lock, absl::ToChronoMilliseconds(patience),
                            [&] { return missing() == answers->listings.end(); });
  if (missing() != answers->listings.end()) {
    return absl::UnavailableError(absl::StrCat("lane ", missing() - answers->listings.begin(),
                                               " did not answer within ",
                                               absl::FormatDuration(patience)));
  }

  std::vector<std::pair<ChunkInfo, uint32_t>> chunks;
  v1::ChunksResponse response;
  for (size_t i = 0; i < lanes.size(); ++i) {
    const ChunkListing& listing = *answers->listings[i];
    if (listing.total) response.set_total(response.total() + *listing.total);
    if (listing.more) response.set_more(true);
    for (ChunkInfo& chunk : answers->listings[i]->chunks) {
      chunks.emplace_back(std::move(chunk), static_cast<uint32_t>(i));
    }
  }
  std::sort(chunks.begin(), chunks.end(),
            [](const auto& a, const auto& b) { return a.first.id < b.first.id; });
  if (chunks.size() > limit) {
    chunks.resize(limit);
    response.set_more(true);
  }
  for (const auto& [chunk, lane] : chunks) *response.add_chunks() = ToProto(chunk, lane);
  return response;
}

}  // namespace latentd
