// When a failed request is worth another attempt, and what must happen first. A request is tried
// again at most once for each cause, inside its deadline, and only where the failure itself says
// that nothing was answered:
//
//   failure                                     before the next attempt           at most
//   WRONG_EPOCH, the holder's table is newer    place on another holder, which    once
//                                               may have what has left this one,
//                                               or else get that table            8 times, each
//                                                                                 for a newer one
//   WRONG_EPOCH, the holder's table is older    place on another holder, or,      once
//                                               there being none, wait for it     48 times, each
//                                                                                 twice as long, up
//                                                                                 to 250 ms: 10 s
//   NOT_HOLDER (another table, the same epoch)  ask it for that table, place anew once
//   UNAUTHENTICATED (expired, or a new daemon)  open a session anew               once
//   UNAVAILABLE (gone, hung, draining),         place on another holder           once
//     NOT_FOUND (it lost what others may have),
//     OUT_OF_RANGE (it has not got it yet),
//     DATA_LOSS (its bytes are not what they were)
//   UNAVAILABLE, of what changes a chunk        wait until another is primary     16 times, each
//                                               by a newer table, or a moment     twice as long, up
//                                                                                 to 1 s: 11 s in all
//   no answer within the attempt's time         ask another holder as well        once
//   anything else                               -                                 never
//
// "Another holder" is an in-sync holder of the slot by the newest table that the client has. What
// changes a chunk goes to the primary only: when that is gone, another holder becomes it, which
// takes about as long as a lease; doing the same again there, or at one that had done it, changes
// nothing. "Once" is once for all causes that have the same remedy. The holder that
// did not answer in its time is not given up: the first answer counts, see race.h.
//
// Tables may change faster than they can be fetched, while slots move: hence more than once for
// these, as long as the holder's epoch grows each time.
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
  uint8_t waits_for_holder = 0;
  uint8_t waits_for_primary = 0;
  uint8_t tables_fetched = 0;
  Epoch fetched{};  // the newest that was asked for
  bool asked_holder = false;
  bool reopened_session = false;
  bool changed_holder = false;
  bool passed_by_move = false;  // asked another holder of what may have left the first

  bool any() const {
    return waits_for_holder > 0 || waits_for_primary > 0 || tables_fetched > 0 || asked_holder ||
           reopened_session || changed_holder || passed_by_move;
  }
};

struct Failure {
  absl::Status status;
  Epoch sent_epoch{};         // of the table that the request was placed by
  Epoch holder_epoch{};       // of WRONG_EPOCH
  bool other_holder = false;  // there is another that may be asked, for every chunk of the work
  bool of_primary = false;    // only the primary will do, whoever that is
};

enum class NextStep : uint8_t {
  kGiveUp,
  kRefreshTable,   // until it is at least as new as holder_epoch
  kWaitForHolder,  // HolderWaitNs
  kAwaitPrimary,   // until another node is it, or PrimaryWaitNs
  kAskHolder,      // for the table that it goes by
  kReopenSession,
  kOtherHolder,
};

NextStep DecideRetry(const Failure& failure, const Attempts& before);
// `before`, with the step taken because of `failure`.
Attempts After(NextStep step, const Failure& failure, Attempts before);

// How long to wait for a holder that has been waited for so many times: 2 ms, then twice as long
// each time, up to 250 ms.
uint64_t HolderWaitNs(const Attempts& before);
// The same of a primary: 20 ms, then twice as long each time, up to 1 s.
uint64_t PrimaryWaitNs(const Attempts& before);

// How long an attempt may take before another holder is asked as well, where there is one and
// `left_ns` are left of the call's time. `configured_ns` if that is not 0, else a quarter; at most
// half, so that the other has as long.
uint64_t AttemptLimitNs(uint64_t configured_ns, uint64_t left_ns);

// What became of a request that one holder failed with `first` and another, in its place, with
// `second`. A cache counts as gone, and records as missing, only if both holders say so.
absl::Status StatusOfBothHolders(const absl::Status& first, const absl::Status& second);

// The same error, typed payloads and all, with "`prefix`: " in front of its message.
absl::Status PrefixStatus(const absl::Status& status, std::string_view prefix);

// What the caller is told. Errors of the data plane that it has no name for become canonical ones:
// a cache that is gone is NOT_FOUND, whatever made the client notice.
absl::Status StatusForCaller(const absl::Status& status);

}  // namespace latentd

#endif  // LATENTD_CLIENT_RETRY_H_
