#include "client/retry.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "transport/errors.h"

namespace latentd {

NextStep DecideRetry(const Failure& failure, const Attempts& before) {
  if (IsWrongEpoch(failure.status)) {
    if (before.refreshed_table) return NextStep::kGiveUp;
    return failure.holder_epoch > failure.sent_epoch ? NextStep::kRefreshTable
                                                     : NextStep::kWaitForHolder;
  }
  if (IsNotHolder(failure.status)) {
    return before.asked_holder ? NextStep::kGiveUp : NextStep::kAskHolder;
  }
  if (absl::IsUnauthenticated(failure.status)) {
    return before.reopened_session ? NextStep::kGiveUp : NextStep::kReopenSession;
  }
  if (absl::IsUnavailable(failure.status) || absl::IsNotFound(failure.status)) {
    return before.changed_holder || !failure.other_holder ? NextStep::kGiveUp
                                                          : NextStep::kOtherHolder;
  }
  return NextStep::kGiveUp;
}

Attempts After(NextStep step, Attempts before) {
  switch (step) {
    case NextStep::kRefreshTable:
    case NextStep::kWaitForHolder:
      before.refreshed_table = true;
      break;
    case NextStep::kAskHolder:
      before.asked_holder = true;
      break;
    case NextStep::kReopenSession:
      before.reopened_session = true;
      break;
    case NextStep::kOtherHolder:
      before.changed_holder = true;
      break;
    case NextStep::kGiveUp:
      break;
  }
  return before;
}

absl::Status StatusOfBothHolders(const absl::Status& first, const absl::Status& second) {
  return absl::IsUnavailable(first) && absl::IsNotFound(second) ? first : second;
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
