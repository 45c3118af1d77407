#include "client/retry.h"

#include <vector>

#include "catch2/catch.hpp"
#include "transport/errors.h"

namespace latentd {
namespace {

constexpr Epoch kOld{4};
constexpr Epoch kNew{5};

Failure WrongEpoch(Epoch sent, Epoch holder) {
  return {.status = WrongEpochError("stale"), .sent_epoch = sent, .holder_epoch = holder};
}

// No attempts but this one.
Attempts Taken(NextStep step, Attempts before = {}) { return After(step, {}, before); }

TEST_CASE("what may have left one holder is asked of another before the new table is waited for") {
  Failure failure = {.status = WrongEpochError("the slot has moved"),
                     .sent_epoch = Epoch{5},
                     .holder_epoch = Epoch{6},
                     .other_holder = true};
  REQUIRE(DecideRetry(failure, {}) == NextStep::kOtherHolder);
  const Attempts attempts = After(NextStep::kOtherHolder, failure, {});
  CHECK_FALSE(attempts.changed_holder);
  CHECK(attempts.any());
  CHECK(DecideRetry(failure, attempts) == NextStep::kRefreshTable);
  failure.status = absl::UnavailableError("connection lost");
  CHECK(DecideRetry(failure, attempts) == NextStep::kOtherHolder);
}

TEST_CASE("a stale table is refreshed as long as tables get newer, eight times") {
  Attempts attempts;
  for (uint64_t epoch = 5; epoch < 13; ++epoch) {
    const Failure failure = WrongEpoch(Epoch{epoch - 1}, Epoch{epoch});
    REQUIRE(DecideRetry(failure, attempts) == NextStep::kRefreshTable);
    attempts = After(NextStep::kRefreshTable, failure, attempts);
    CHECK(attempts.any());
    CHECK(DecideRetry(failure, attempts) == NextStep::kGiveUp);
  }
  CHECK(DecideRetry(WrongEpoch(Epoch{13}, Epoch{14}), attempts) == NextStep::kGiveUp);
}

TEST_CASE("a holder that lags behind is passed over for another, or given more and more time") {
  Failure failure = WrongEpoch(kNew, kOld);
  CHECK(DecideRetry(failure, {}) == NextStep::kWaitForHolder);
  Attempts attempts;
  uint64_t waited_ns = 0;
  for (int i = 0; i < 48; ++i) {
    REQUIRE(DecideRetry(failure, attempts) == NextStep::kWaitForHolder);
    waited_ns += HolderWaitNs(attempts);
    attempts = Taken(NextStep::kWaitForHolder, attempts);
  }
  CHECK(DecideRetry(failure, attempts) == NextStep::kGiveUp);
  CHECK(waited_ns == 10'504'000'000);
  failure.other_holder = true;
  CHECK(DecideRetry(failure, {}) == NextStep::kOtherHolder);
  CHECK(DecideRetry(failure, Taken(NextStep::kOtherHolder)) == NextStep::kWaitForHolder);
}

TEST_CASE("a holder that does not hold the slot is asked for its table, once") {
  const Failure failure = {.status = NotHolderError("slot 3 is held by node-b"),
                           .sent_epoch = kOld,
                           .holder_epoch = kOld,
                           .other_holder = true};
  CHECK(DecideRetry(failure, {}) == NextStep::kAskHolder);
  CHECK(DecideRetry(failure, Taken(NextStep::kRefreshTable)) == NextStep::kAskHolder);
  CHECK(DecideRetry(failure, Taken(NextStep::kAskHolder)) == NextStep::kGiveUp);
  const absl::Status told = StatusForCaller(failure.status);
  CHECK(IsNotHolder(told));
  CHECK(told.message() == "it goes by another table of the same epoch: slot 3 is held by node-b");
}

TEST_CASE("a session that is over is opened anew, once") {
  const Failure failure = {.status = absl::UnauthenticatedError("no such token")};
  CHECK(DecideRetry(failure, {}) == NextStep::kReopenSession);
  CHECK(DecideRetry(failure, Taken(NextStep::kReopenSession)) == NextStep::kGiveUp);
}

TEST_CASE("a holder that is gone is replaced by another, once") {
  Failure failure = {.status = absl::UnavailableError("connection lost"), .other_holder = true};
  CHECK(DecideRetry(failure, {}) == NextStep::kOtherHolder);
  CHECK(DecideRetry(failure, Taken(NextStep::kOtherHolder)) == NextStep::kGiveUp);
  failure.other_holder = false;
  CHECK(DecideRetry(failure, {}) == NextStep::kGiveUp);
}

TEST_CASE("a primary that is gone is waited for, and no longer than eleven seconds") {
  const Failure failure = {.status = absl::UnavailableError("connection lost"), .of_primary = true};
  Attempts attempts;
  uint64_t waited_ns = 0;
  while (DecideRetry(failure, attempts) == NextStep::kAwaitPrimary) {
    waited_ns += PrimaryWaitNs(attempts);
    attempts = Taken(NextStep::kAwaitPrimary, attempts);
    REQUIRE(waited_ns < 20'000'000'000);
  }
  CHECK(DecideRetry(failure, attempts) == NextStep::kGiveUp);
  CHECK(waited_ns == 11'260'000'000);
  CHECK(attempts.any());
  // Whatever else it says is of the chunk.
  CHECK(DecideRetry({.status = absl::NotFoundError("no such chunk"), .of_primary = true}, {}) ==
        NextStep::kGiveUp);
}

TEST_CASE("what one holder has lost another may have") {
  Failure failure = {.status = absl::NotFoundError("no such chunk"), .other_holder = true};
  CHECK(DecideRetry(failure, {}) == NextStep::kOtherHolder);
  CHECK(DecideRetry(failure, Taken(NextStep::kOtherHolder)) == NextStep::kGiveUp);
  failure.other_holder = false;
  CHECK(DecideRetry(failure, {}) == NextStep::kGiveUp);
}

TEST_CASE("what has not come to one holder yet another may have") {
  Failure failure = {.status = absl::OutOfRangeError("10 of 20 tokens"), .other_holder = true};
  CHECK(DecideRetry(failure, {}) == NextStep::kOtherHolder);
  CHECK(DecideRetry(failure, Taken(NextStep::kOtherHolder)) == NextStep::kGiveUp);
  failure.other_holder = false;
  CHECK(DecideRetry(failure, {}) == NextStep::kGiveUp);
}

TEST_CASE("bytes that have changed at one holder another may have as they were") {
  Failure failure = {.status = absl::DataLossError("quarantined"), .other_holder = true};
  CHECK(DecideRetry(failure, {}) == NextStep::kOtherHolder);
  CHECK(DecideRetry(failure, Taken(NextStep::kOtherHolder)) == NextStep::kGiveUp);
}

TEST_CASE("an attempt has a quarter of what is left, or what was configured, and half at most") {
  CHECK(AttemptLimitNs(0, 4000) == 1000);
  CHECK(AttemptLimitNs(300, 4000) == 300);
  CHECK(AttemptLimitNs(3000, 4000) == 2000);
  CHECK(AttemptLimitNs(0, 0) == 0);
}

TEST_CASE("a cache is gone only if both holders say so") {
  const absl::Status gone = absl::NotFoundError("no such chunk");
  const absl::Status silent = absl::UnavailableError("hung");
  CHECK(StatusOfBothHolders(gone, gone) == gone);
  CHECK(StatusOfBothHolders(silent, gone) == silent);
  CHECK(StatusOfBothHolders(gone, silent) == silent);
  const absl::Status part = absl::OutOfRangeError("10 of 20 tokens");
  CHECK(StatusOfBothHolders(silent, part) == silent);
  CHECK(StatusOfBothHolders(part, gone) == part);
  CHECK(StatusOfBothHolders(gone, part) == part);
  // Nobody else was asked.
  CHECK(StatusOfBothHolders(absl::OkStatus(), gone) == gone);
}

TEST_CASE("each cause has its own attempt") {
  Attempts attempts = Taken(NextStep::kRefreshTable);
  attempts = Taken(NextStep::kReopenSession, attempts);
  CHECK(attempts.any());
  CHECK(DecideRetry({.status = absl::UnavailableError("gone"), .other_holder = true}, attempts) ==
        NextStep::kOtherHolder);
}

TEST_CASE("nothing else is tried again") {
  const std::vector<absl::Status> finals = {
      absl::InvalidArgumentError("x"),    absl::AlreadyExistsError("x"),
      absl::ResourceExhaustedError("x"),  absl::DeadlineExceededError("x"),
      absl::FailedPreconditionError("x"), absl::InternalError("x"),
      WrongGenerationError("x"),          LayoutMismatchError("x")};
  for (const absl::Status& status : finals) {
    CHECK(DecideRetry({.status = status, .other_holder = true}, {}) == NextStep::kGiveUp);
  }
}

TEST_CASE("a cache that is gone is NOT_FOUND to the caller") {
  CHECK(absl::IsNotFound(StatusForCaller(WrongGenerationError("generation 7"))));
  const absl::Status other = absl::OutOfRangeError("tokens");
  CHECK(StatusForCaller(other) == other);
}

TEST_CASE("a prefix leaves an error what it is") {
  const absl::Status status = PrefixStatus(
      WithRetryAfter(absl::ResourceExhaustedError("full"), absl::Milliseconds(3)), "node a");
  CHECK(status.message() == "node a: full");
  CHECK(RetryAfter(status) == absl::Milliseconds(3));
  CHECK(IsWrongEpoch(PrefixStatus(WrongEpochError("old"), "node a")));
}

}  // namespace
}  // namespace latentd
