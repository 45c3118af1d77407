#include "transport/errors.h"

#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace latentd {
namespace {

// Payload of a FAILED_PRECONDITION that is one of latentd's own kinds.
constexpr char kKindUrl[] = "latentd/kind";
constexpr char kRetryAfterUrl[] = "latentd/retry-after-us";

constexpr char kWrongEpoch[] = "WRONG_EPOCH";
constexpr char kWrongGeneration[] = "WRONG_GENERATION";
constexpr char kLayoutMismatch[] = "LAYOUT_MISMATCH";
constexpr char kNotHolder[] = "NOT_HOLDER";

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

absl::Status KindError(const char* kind, std::string_view message) {
  absl::Status status = absl::FailedPreconditionError(View(message));
  status.SetPayload(kKindUrl, absl::Cord(kind));
  return status;
}

bool IsKind(const absl::Status& status, const char* kind) {
  const auto payload = status.GetPayload(kKindUrl);
  return payload.has_value() && *payload == kind;
}

}  // namespace

absl::Status WrongEpochError(std::string_view message) { return KindError(kWrongEpoch, message); }

absl::Status WrongGenerationError(std::string_view message) {
  return KindError(kWrongGeneration, message);
}

absl::Status LayoutMismatchError(std::string_view message) {
  return KindError(kLayoutMismatch, message);
}

absl::Status NotHolderError(std::string_view message) { return KindError(kNotHolder, message); }

bool IsWrongEpoch(const absl::Status& status) { return IsKind(status, kWrongEpoch); }
bool IsWrongGeneration(const absl::Status& status) { return IsKind(status, kWrongGeneration); }
bool IsLayoutMismatch(const absl::Status& status) { return IsKind(status, kLayoutMismatch); }
bool IsNotHolder(const absl::Status& status) { return IsKind(status, kNotHolder); }

absl::Status WithRetryAfter(absl::Status status, absl::Duration retry_after) {
  if (status.ok() || retry_after <= absl::ZeroDuration()) return status;
  // A hint below a microsecond is still a hint: 0 means none on the wire.
  const int64_t us = absl::ToInt64Microseconds(absl::Ceil(retry_after, absl::Microseconds(1)));
  status.SetPayload(kRetryAfterUrl, absl::Cord(absl::StrCat(us)));
  return status;
}

std::optional<absl::Duration> RetryAfter(const absl::Status& status) {
  const auto payload = status.GetPayload(kRetryAfterUrl);
  if (!payload.has_value()) return std::nullopt;
  int64_t us = 0;
  if (!absl::SimpleAtoi(std::string(*payload), &us) || us <= 0) return std::nullopt;
  return absl::Microseconds(us);
}

wire::Code ToWireCode(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return wire::Code::kOk;
    case absl::StatusCode::kInvalidArgument:
      return wire::Code::kInvalidArgument;
    case absl::StatusCode::kDeadlineExceeded:
      return wire::Code::kDeadlineExceeded;
    case absl::StatusCode::kNotFound:
      return wire::Code::kNotFound;
    case absl::StatusCode::kAlreadyExists:
      return wire::Code::kAlreadyExists;
    case absl::StatusCode::kResourceExhausted:
      return wire::Code::kResourceExhausted;
    case absl::StatusCode::kFailedPrecondition:
      if (IsWrongEpoch(status)) return wire::Code::kWrongEpoch;
      if (IsWrongGeneration(status)) return wire::Code::kWrongGeneration;
      if (IsLayoutMismatch(status)) return wire::Code::kLayoutMismatch;
      if (IsNotHolder(status)) return wire::Code::kNotHolder;
      return wire::Code::kFailedPrecondition;
    case absl::StatusCode::kOutOfRange:
      return wire::Code::kOutOfRange;
    case absl::StatusCode::kUnimplemented:
      return wire::Code::kUnimplemented;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kAborted:
      return wire::Code::kUnavailable;
    case absl::StatusCode::kDataLoss:
      return wire::Code::kDataLoss;
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return wire::Code::kUnauthenticated;
    default:
      return wire::Code::kInternal;
  }
}

absl::Status FromWireCode(wire::Code code, std::string_view message) {
  switch (code) {
    case wire::Code::kOk:
      return absl::OkStatus();
    case wire::Code::kInvalidArgument:
    case wire::Code::kDeadlineExceeded:
    case wire::Code::kNotFound:
    case wire::Code::kAlreadyExists:
    case wire::Code::kResourceExhausted:
    case wire::Code::kFailedPrecondition:
    case wire::Code::kOutOfRange:
    case wire::Code::kUnimplemented:
    case wire::Code::kInternal:
    case wire::Code::kUnavailable:
    case wire::Code::kDataLoss:
    case wire::Code::kUnauthenticated:
      return absl::Status(static_cast<absl::StatusCode>(code), View(message));
    case wire::Code::kWrongEpoch:
      return WrongEpochError(message);
    case wire::Code::kWrongGeneration:
      return WrongGenerationError(message);
    case wire::Code::kLayoutMismatch:
      return LayoutMismatchError(message);
    case wire::Code::kNotHolder:
      return NotHolderError(message);
  }
  return absl::InternalError(absl::StrCat("the holder answered with code ",
                                          static_cast<unsigned>(code),
                                          ", which this build does not know: ", View(message)));
}

std::string_view CodeName(wire::Code code) {
  switch (code) {
    case wire::Code::kOk:
      return "OK";
    case wire::Code::kInvalidArgument:
      return "INVALID_ARGUMENT";
    case wire::Code::kDeadlineExceeded:
      return "DEADLINE_EXCEEDED";
    case wire::Code::kNotFound:
      return "NOT_FOUND";
    case wire::Code::kAlreadyExists:
      return "ALREADY_EXISTS";
    case wire::Code::kResourceExhausted:
      return "RESOURCE_EXHAUSTED";
    case wire::Code::kFailedPrecondition:
      return "FAILED_PRECONDITION";
    case wire::Code::kOutOfRange:
      return "OUT_OF_RANGE";
    case wire::Code::kUnimplemented:
      return "UNIMPLEMENTED";
    case wire::Code::kInternal:
      return "INTERNAL";
    case wire::Code::kUnavailable:
      return "UNAVAILABLE";
    case wire::Code::kDataLoss:
      return "DATA_LOSS";
    case wire::Code::kUnauthenticated:
      return "UNAUTHENTICATED";
    case wire::Code::kWrongEpoch:
      return kWrongEpoch;
    case wire::Code::kWrongGeneration:
      return kWrongGeneration;
    case wire::Code::kLayoutMismatch:
      return kLayoutMismatch;
    case wire::Code::kNotHolder:
      return kNotHolder;
  }
  return "UNKNOWN";
}

}  // namespace latentd
