#include "client/retry.h"

#include <algorithm>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "transport/errors.h"

namespace latentd {
namespace {

constexpr uint8_t kMostTablesFetched = 8;
constexpr uint8_t kMostWaits = 48;
constexpr uint64_t kFirstWaitNs = 2'000'000;
constexpr uint64_t kMostWaitNs = 250'000'000;
constexpr uint8_t kMostPrimaryWaits = 16;
constexpr uint64_t kFirstPrimaryWaitNs = 20'000'000;
constexpr uint64_t kMostPrimaryWaitNs = 1'000'000'000;

}  // namespace

NextStep DecideRetry(const Failure& failure, const Attempts& before) {
  if (IsWrongEpoch(failure.status)) {
    if (failure.holder_epoch > failure.sent_epoch) {
      if (failure.other_holder && !before.passed_by_move) return NextStep::kOtherHolder;
      return before.tables_fetched < kMostTablesFetched && failure.holder_epoch > before.fetched
                 ? NextStep::kRefreshTable
                 : NextStep::kGiveUp;
    }
    if (failure.other_holder && !before.changed_holder) return NextStep::kOtherHolder;
    return before.waits_for_holder < kMostWaits ? NextStep::kWaitForHolder : NextStep::kGiveUp;
  }
  if (IsNotHolder(failure.status)) {
    return before.asked_holder ? NextStep::kGiveUp : NextStep::kAskHolder;
  }
  if (absl::IsUnauthenticated(failure.status)) {
    return before.reopened_session ? NextStep::kGiveUp : NextStep::kReopenSession;
  }
  if (absl::IsUnavailable(failure.status) && failure.of_primary) {
    return before.waits_for_primary < kMostPrimaryWaits ? NextStep::kAwaitPrimary
                                                        : NextStep::kGiveUp;
  }
  if (absl::IsUnavailable(failure.status) || absl::IsNotFound(failure.status) ||
      absl::IsOutOfRange(failure.status) || absl::IsDataLoss(failure.status)) {
    return before.changed_holder || !failure.other_holder ? NextStep::kGiveUp
                                                          : NextStep::kOtherHolder;
  }
  return NextStep::kGiveUp;
}

Attempts After(NextStep step, const Failure& failure, Attempts before) {
  switch (step) {
    case NextStep::kRefreshTable:
      before.fetched = failure.holder_epoch;
      ++before.tables_fetched;
      break;
    case NextStep::kWaitForHolder:
      ++before.waits_for_holder;
      break;
    case NextStep::kAwaitPrimary:
      ++before.waits_for_primary;
      break;
    case NextStep::kAskHolder:
      before.asked_holder = true;
      break;
    case NextStep::kReopenSession:
      before.reopened_session = true;
      break;
    case NextStep::kOtherHolder: {
      const bool moved = IsWrongEpoch(failure.status) && failure.holder_epoch > failure.sent_epoch;
      (moved ? before.passed_by_move : before.changed_holder) = true;
      break;
    }
    case NextStep::kGiveUp:
      break;
  }
  return before;
}

uint64_t HolderWaitNs(const Attempts& before) {
  return std::min(kFirstWaitNs << std::min<uint8_t>(before.waits_for_holder, 7), kMostWaitNs);
}

uint64_t PrimaryWaitNs(const Attempts& before) {
  return std::min(kFirstPrimaryWaitNs << before.waits_for_primary, kMostPrimaryWaitNs);
}

uint64_t AttemptLimitNs(uint64_t configured_ns, uint64_t left_ns) {
  return std::min(configured_ns != 0 ? configured_ns : left_ns / 4, left_ns / 2);
}

absl::Status StatusOfBothHolders(const absl::Status& first, const absl::Status& second) {
  const bool first_knows_less = absl::IsUnavailable(first) && !absl::IsUnavailable(second);
  const bool denies = absl::IsNotFound(second) || absl::IsOutOfRange(second);
  if (first_knows_less && denies) return first;
  // Who has a part of the records knows that the chunk is there.
  return absl::IsOutOfRange(first) && absl::IsNotFound(second) ? first : second;
}

absl::Status PrefixStatus(const absl::Status& status, std::string_view prefix) {
  absl::Status result(status.code(),
                      absl::StrCat(std::string(prefix), ": ", std::string(status.message())));
  status.ForEachPayload(
      [&](absl::string_view url, const absl::Cord& payload) { result.SetPayload(url, payload); });
  return result;
}

absl::Status StatusForCaller(const absl::Status& status) {
  if (IsWrongGeneration(status)) {
    return absl::NotFoundError(absl::StrCat("the holder has restarted and its cache is gone: ",
                                            std::string(status.message())));
  }
  if (IsNotHolder(status)) {
    return PrefixStatus(status, "it goes by another table of the same epoch");
  }
  return status;
}

}  // namespace latentd
