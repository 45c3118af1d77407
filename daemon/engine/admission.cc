#include "daemon/engine/admission.h"

#include <string_view>

#include "absl/strings/str_cat.h"
#include "transport/errors.h"

namespace latentd {
namespace {

absl::Status TooManyRequests(const char* whose, uint32_t limit, absl::Duration retry) {
  return WithRetryAfter(absl::ResourceExhaustedError(absl::StrCat(whose, " has its limit of ",
                                                                  limit, " requests in flight")),
                        retry);
}

absl::Status CheckBytes(const char* whose, uint64_t used, uint64_t bytes, uint64_t limit,
                        absl::Duration retry) {
  if (bytes > limit) {
    return absl::ResourceExhaustedError(absl::StrCat("a request of ", bytes,
                                                     " payload bytes both ways; ", whose,
                                                     " may have ", limit, " in flight"));
  }
  if (used <= limit - bytes) return absl::OkStatus();
  return WithRetryAfter(absl::ResourceExhaustedError(absl::StrCat(
                            whose, " has ", used, " of ", limit, " payload bytes in flight; ",
                            bytes, " more are too many")),
                        retry);
}

}  // namespace

absl::Status Admission::Admit(Usage& session, uint64_t bytes) {
  if (session.requests >= limits_.session_requests) {
    return TooManyRequests("the session", limits_.session_requests, limits_.session_retry);
  }
  if (absl::Status s = CheckBytes("the session", session.bytes, bytes, limits_.session_bytes,
                                  limits_.session_retry);
      !s.ok()) {
    return s;
  }
  if (lane_.requests >= limits_.lane_requests) {
    return TooManyRequests("the lane", limits_.lane_requests, limits_.lane_retry);
  }
  if (absl::Status s =
          CheckBytes("the lane", lane_.bytes, bytes, limits_.lane_bytes, limits_.lane_retry);
      !s.ok()) {
    return s;
  }
  for (Usage* usage : {&session, &lane_}) {
    ++usage->requests;
    usage->bytes += bytes;
  }
  return absl::OkStatus();
}

void Admission::Release(Usage& session, uint64_t bytes) {
  for (Usage* usage : {&session, &lane_}) {
    --usage->requests;
    usage->bytes -= bytes;
  }
}

}  // namespace latentd
