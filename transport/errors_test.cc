#include "transport/errors.h"

#include <limits>
#include <set>
#include <string>

#include "catch2/catch.hpp"

namespace latentd {
namespace {

TEST_CASE("every code on the wire survives the way to a status and back") {
  for (const wire::Code code : kWireCodes) {
    const absl::Status status = FromWireCode(code, "chunk 7 of node-a");
    INFO(std::string(CodeName(code)));
    CHECK(ToWireCode(status) == code);
    CHECK(status.ok() == (code == wire::Code::kOk));
    if (!status.ok()) CHECK(status.message() == "chunk 7 of node-a");
  }
}

TEST_CASE("every code has a name of its own") {
  std::set<std::string> names;
  for (const wire::Code code : kWireCodes) names.emplace(CodeName(code));
  CHECK(names.size() == std::size(kWireCodes));
  CHECK(names.count("UNKNOWN") == 0);
}

TEST_CASE("the list of codes has every code that this build knows") {
  std::set<int> listed;
  for (const wire::Code code : kWireCodes) listed.insert(static_cast<int>(code));
  std::set<int> known;
  for (int value = 0; value <= std::numeric_limits<uint16_t>::max(); ++value) {
    if (CodeName(static_cast<wire::Code>(value)) != "UNKNOWN") known.insert(value);
  }
  CHECK(listed == known);
}

TEST_CASE("a canonical code keeps its canonical number on the wire") {
  for (const wire::Code code : kWireCodes) {
    if (static_cast<int>(code) >= 100) continue;
    CHECK(static_cast<int>(FromWireCode(code, "x").code()) == static_cast<int>(code));
  }
}

TEST_CASE("a code that this build does not know becomes INTERNAL and says so") {
  const absl::Status status = FromWireCode(static_cast<wire::Code>(4711), "text of the holder");
  CHECK(status.code() == absl::StatusCode::kInternal);
  CHECK(std::string(status.message()).find("4711") != std::string::npos);
  CHECK(std::string(status.message()).find("text of the holder") != std::string::npos);
  CHECK(CodeName(static_cast<wire::Code>(4711)) == "UNKNOWN");
}

TEST_CASE("every canonical status has a code on the wire that is an error") {
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "x");
    CHECK(ToWireCode(status) != wire::Code::kOk);
  }
}

TEST_CASE("the three preconditions are told apart from each other and from a plain one") {
  const absl::Status epoch = WrongEpochError("a");
  const absl::Status generation = WrongGenerationError("a");
  const absl::Status layout = LayoutMismatchError("a");
  const absl::Status plain = absl::FailedPreconditionError("a");
  CHECK(IsWrongEpoch(epoch));
  CHECK_FALSE(IsWrongEpoch(generation));
  CHECK_FALSE(IsWrongEpoch(layout));
  CHECK_FALSE(IsWrongEpoch(plain));
  CHECK(IsWrongGeneration(generation));
  CHECK_FALSE(IsWrongGeneration(epoch));
  CHECK(IsLayoutMismatch(layout));
  CHECK_FALSE(IsLayoutMismatch(plain));
  CHECK_FALSE(IsLayoutMismatch(absl::OkStatus()));
  CHECK(epoch.code() == absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("a retry hint travels with its status") {
  const absl::Status status =
      WithRetryAfter(absl::ResourceExhaustedError("full"), absl::Milliseconds(3));
  CHECK(status.code() == absl::StatusCode::kResourceExhausted);
  CHECK(RetryAfter(status) == absl::Milliseconds(3));
  CHECK(RetryAfter(absl::UnavailableError("x")) == std::nullopt);
}

TEST_CASE("a retry hint is never rounded down to none, and OK carries none") {
  CHECK(RetryAfter(WithRetryAfter(absl::UnavailableError("x"), absl::Nanoseconds(1))) ==
        absl::Microseconds(1));
  CHECK(RetryAfter(WithRetryAfter(absl::UnavailableError("x"), absl::ZeroDuration())) ==
        std::nullopt);
  CHECK(WithRetryAfter(absl::OkStatus(), absl::Seconds(1)).ok());
  CHECK(RetryAfter(WithRetryAfter(absl::OkStatus(), absl::Seconds(1))) == std::nullopt);
}

TEST_CASE("a retry hint leaves the kind of a precondition alone") {
  const absl::Status status = WithRetryAfter(WrongEpochError("x"), absl::Seconds(1));
  CHECK(IsWrongEpoch(status));
  CHECK(ToWireCode(status) == wire::Code::kWrongEpoch);
}

}  // namespace
}  // namespace latentd
