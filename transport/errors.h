// The typed errors of the data plane as absl::Status, and their codes on the wire.
//
// Most errors are plain canonical statuses. Four more are told apart by a payload on a
// FAILED_PRECONDITION status: a stale epoch, another generation, another layout, a slot that is
// held elsewhere. A retry hint travels as a payload too.
#ifndef LATENTD_TRANSPORT_ERRORS_H_
#define LATENTD_TRANSPORT_ERRORS_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "transport/wire.h"

namespace latentd {

absl::Status WrongEpochError(std::string_view message);
absl::Status WrongGenerationError(std::string_view message);
absl::Status LayoutMismatchError(std::string_view message);
absl::Status NotHolderError(std::string_view message);

bool IsWrongEpoch(const absl::Status& status);
bool IsWrongGeneration(const absl::Status& status);
bool IsLayoutMismatch(const absl::Status& status);
bool IsNotHolder(const absl::Status& status);

// Attaches a hint of when to try again (RESOURCE_EXHAUSTED, UNAVAILABLE).
absl::Status WithRetryAfter(absl::Status status, absl::Duration retry_after);
std::optional<absl::Duration> RetryAfter(const absl::Status& status);

// Every code that this build knows.
inline constexpr wire::Code kWireCodes[] = {wire::Code::kOk,
                                            wire::Code::kInvalidArgument,
                                            wire::Code::kDeadlineExceeded,
                                            wire::Code::kNotFound,
                                            wire::Code::kAlreadyExists,
                                            wire::Code::kResourceExhausted,
                                            wire::Code::kFailedPrecondition,
                                            wire::Code::kOutOfRange,
                                            wire::Code::kUnimplemented,
                                            wire::Code::kInternal,
                                            wire::Code::kUnavailable,
                                            wire::Code::kDataLoss,
                                            wire::Code::kUnauthenticated,
                                            wire::Code::kWrongEpoch,
                                            wire::Code::kWrongGeneration,
                                            wire::Code::kLayoutMismatch,
                                            wire::Code::kNotHolder};

wire::Code ToWireCode(const absl::Status& status);
// A code that this build does not know becomes INTERNAL and says so.
absl::Status FromWireCode(wire::Code code, std::string_view message);
std::string_view CodeName(wire::Code code);

}  // namespace latentd

#endif  // LATENTD_TRANSPORT_ERRORS_H_
