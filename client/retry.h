// When a failed request is worth another attempt, and what must happen first. A request is tried
// again at most once for each cause, inside its deadline, and only where the failure itself says
// that nothing was answered:
//
//   failure                                     before the next attempt           at most
//   WRONG_EPOCH, the holder's table is newer    get that table, place anew        once
//   WRONG_EPOCH, the holder's table is older    wait for it to catch up           once
//   NOT_HOLDER (another table, the same epoch)  ask it for that table, place anew once
//   UNAUTHENTICATED (expired, or a new daemon)  open a session anew               once
//   UNAVAILABLE (gone, hung, draining),         place on another holder           once
//     NOT_FOUND (it lost what others may have)
//   anything else                               -                                 never
//
// WRONG_GENERATION is never tried again: the bytes that were asked for are gone. RESOURCE_EXHAUSTED
// goes to the caller with its hint: only the caller knows what may wait.
//
// Pure; any thread.
#ifndef LATENTD_CLIENT_RETRY_H_
#define LATENTD_CLIENT_RETRY_H_

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "routing/ids.h"

namespace latentd {

// What a piece of work has been through.
struct Attempts {
  bool refreshed_table = false;
  bool asked_holder = false;
  bool reopened_session = false;
  bool changed_holder = false;

  bool any() const { return refreshed_table || asked_holder || reopened_session || changed_holder; }
};

struct Failure {
  absl::Status status;
  Epoch sent_epoch{};         // of the table that the request was placed by
  Epoch holder_epoch{};       // of WRONG_EPOCH
  bool other_holder = false;  // there is another that may be asked, for every chunk of the work
};

enum class NextStep : uint8_t {
  kGiveUp,
  kRefreshTable,   // until it is at least as new as holder_epoch
  kWaitForHolder,  // a few milliseconds
  kAskHolder,      // for the table that it goes by
  kReopenSession,
  kOtherHolder,
};

NextStep DecideRetry(const Failure& failure, const Attempts& before);
// `before`, with the step taken.
Attempts After(NextStep step, Attempts before);

// What became of a request that one holder failed with `first` and another, in its place, with
// `second`. A cache counts as gone only if both holders say so.
absl::Status StatusOfBothHolders(const absl::Status& first, const absl::Status& second);

// The same error, typed payloads and all, with "`prefix`: " in front of its message.
absl::Status PrefixStatus(const absl::Status& status, std::string_view prefix);

// What the caller is told. Errors of the data plane that it has no name for become canonical ones:
// a cache that is gone is NOT_FOUND, whatever made the client notice.
absl::Status StatusForCaller(const absl::Status& status);

}  // namespace latentd

#endif  // LATENTD_CLIENT_RETRY_H_
