#include "daemon/engine/admission.h"

#include "absl/strings/str_cat.h"
#include "transport/errors.h"

namespace latentd {
namespace {

struct Bound {
  const char* whose;
  uint32_t requests;
  uint64_t bytes;
  absl::Duration retry;
};

void Add(Usage& usage, uint64_t bytes) {
  ++usage.requests;
  usage.bytes += bytes;
}

void Remove(Usage& usage, uint64_t bytes) {
  --usage.requests;
  usage.bytes -= bytes;
}

absl::Status CheckBound(const InFlight& used, uint64_t bytes, const Bound& bound) {
  const auto refuse = [&](const auto&... what) {
    return WithRetryAfter(absl::ResourceExhaustedError(absl::StrCat(bound.whose, what...)),
                          bound.retry);
  };
  if (bytes > bound.bytes) {
    return absl::ResourceExhaustedError(absl::StrCat("a request of ", bytes,
                                                     " payload bytes both ways; ", bound.whose,
                                                     " may have ", bound.bytes, " in flight"));
  }
  if (used.working.requests >= bound.requests) {
    return refuse(" has its limit of ", bound.requests, " requests in flight");
  }
  if (used.working.bytes > bound.bytes - bytes) {
    return refuse(" has ", used.working.bytes, " of ", bound.bytes, " payload bytes in flight; ",
                  bytes, " more are too many");
  }
  constexpr uint64_t kFactor = Admission::kLeavingFactor;
  if (used.leaving.requests >= kFactor * bound.requests ||
      used.leaving.bytes / kFactor >= bound.bytes) {
    return refuse(" has ", used.leaving.requests, " replies of ", used.leaving.bytes,
                  " bytes that were not taken: read them first");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Admission::Admit(InFlight& session, uint64_t bytes) {
  absl::Status s = CheckBound(session, bytes,
                              {.whose = "the session",
                               .requests = limits_.session_requests,
                               .bytes = limits_.session_bytes,
                               .retry = limits_.session_retry});
  if (!s.ok()) return s;
  s = CheckBound(lane_, bytes,
                 {.whose = "the lane",
                  .requests = limits_.lane_requests,
                  .bytes = limits_.lane_bytes,
                  .retry = limits_.lane_retry});
  if (!s.ok()) return s;
  Add(session.working, bytes);
  Add(lane_.working, bytes);
  return absl::OkStatus();
}

void Admission::StartLeaving(InFlight& session, uint64_t bytes) {
  ReleaseWorking(session, bytes);
  Add(session.leaving, bytes);
  Add(lane_.leaving, bytes);
}

void Admission::ReleaseLeaving(InFlight& session, uint64_t bytes) {
  Remove(session.leaving, bytes);
  Remove(lane_.leaving, bytes);
}

void Admission::ReleaseWorking(InFlight& session, uint64_t bytes) {
  Remove(session.working, bytes);
  Remove(lane_.working, bytes);
}

}  // namespace latentd
