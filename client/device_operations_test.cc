// Calls whose memory is a device's, with a device that is the host's memory and a stream that the
// test moves on.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <map>
#include <vector>

#include "client/attend_operation.h"
#include "client/staged_publish.h"
#include "kernels/bf16.h"

namespace latentd {
namespace {

class FakeDevice final : public ClientDevice {
 public:
  PayloadPool& pool() override { return pool_; }
  std::span<std::byte> slab() override { return {}; }
  PayloadPool& pinned_pool() override { return pinned_; }
  void EnterThread() override {}
  absl::Status Check(std::string_view what, const void* memory) override {
    if (memory != foreign) return absl::OkStatus();
    return absl::InvalidArgumentError(std::string(what) + ": not memory of fake:0");
  }
  absl::StatusOr<std::unique_ptr<StreamMark>> Mark(CudaStream) override {
    return std::make_unique<FakeMark>(*this);
  }
  absl::Status Copy(void* to, const void* from, uint64_t bytes, CudaStream) override {
    copies_.push_back({to, from, bytes});
    return absl::OkStatus();
  }
  absl::Status CopyNow(void* to, const void* from, uint64_t bytes) override {
    std::memcpy(to, from, bytes);
    return absl::OkStatus();
  }
  absl::Status Assemble(std::span<const MessagePartial> partials, const AttendQuery& query,
                        uint32_t tokens, uint32_t latent_width,
                        std::vector<ReplyPayload>) override {
    ++assembled;
    if (!stream.ok()) return stream.status();
    AssemblePartials(partials, tokens, query.heads, latent_width, query.out_format,
                     query.out.data(), query.lse.data());
    return absl::OkStatus();
  }
  // What the stream was given happens.
  void Reach() {
    stream = true;
    for (const auto& [to, from, bytes] : copies_) std::memcpy(to, from, bytes);
    copies_.clear();
  }

  absl::StatusOr<bool> stream = false;
  const void* foreign = nullptr;
  int assembled = 0;

 private:
  struct FakeMark final : StreamMark {
    explicit FakeMark(FakeDevice& device) : device(device) {}
    absl::StatusOr<bool> Reached() override { return device.stream; }
    void Wait() override { device.Reach(); }
    FakeDevice& device;
  };
  struct PendingCopy {
    void* to;
    const void* from;
    uint64_t bytes;
  };

  PayloadPool pool_;
  PayloadPool pinned_;
  std::vector<PendingCopy> copies_;
};

Layout TestLayout() {
  Layout layout;
  layout.layers = 1;
  layout.latent_width = 8;
  layout.rope_width = 4;
  return layout;
}

constexpr ChunkId kFirst = {.hi = 1, .lo = 1};
constexpr ChunkId kSecond = {.hi = 1, .lo = 2};

// Three query tokens of two heads: the outer ones attend one chunk, the inner one another.
struct Query {
  Query() {
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = FloatToBf16(static_cast<float>(i));
  }
  AttendQuery args() {
    return {.scale = 1,
            .heads = 2,
            .groups = groups,
            .rows = rows,
            .out = out,
            .lse = lse,
            .on_device = true};
  }

  std::vector<Bf16> rows = std::vector<Bf16>(3 * 2 * 12);
  std::vector<std::byte> out = std::vector<std::byte>(3 * 2 * 8 * sizeof(Bf16));
  std::vector<float> lse = std::vector<float>(3 * 2);
  VisibleChunk first[1] = {{kFirst, 5}};
  VisibleChunk second[1] = {{kSecond, 5}};
  std::vector<QueryGroup> groups = {{.tokens = 1, .chunks = first},
                                    {.tokens = 1, .chunks = second},
                                    {.tokens = 1, .chunks = first}};
};

SessionInfo Session() {
  SessionInfo session;
  session.limits.rows_per_request = 1024;
  session.limits.payload_bytes_per_request = 1 << 20;
  session.limits.publish_bytes_per_request = 1 << 20;
  session.limits.chunks_per_request = 16;
  session.limits.work_per_request = 1 << 20;
  return session;
}

struct Ended {
  int times = 0;
  absl::Status status;
};

std::unique_ptr<Operation> Attend(Query& query, FakeDevice& device, Ended& ended) {
  auto made = MakeAttendOperation(query.args(), TestLayout(), &device, nullptr,
                                  [&ended](absl::StatusOr<AttendAnswer> answer) {
                                    ++ended.times;
                                    ended.status = answer.status();
                                  });
  REQUIRE(made.ok());
  return *std::move(made);
}

std::vector<Built> BuildItems(Operation& operation, std::vector<uint32_t> items) {
  const SessionInfo session = Session();
  PayloadPool host;
  std::vector<Built> built;
  REQUIRE(operation.Build({session, 0, 4096, host}, items, &built).ok());
  CHECK(host.lent_bytes() == 0);
  return built;
}

TEST_CASE("rows on a device are sent once the stream has come to them") {
  FakeDevice device;
  Query query;
  Ended ended;
  const auto operation = Attend(query, device, ended);
  CHECK_FALSE(*operation->Ready());
  CHECK_FALSE(operation->worth_hedging());
  device.Reach();
  CHECK(*operation->Ready());
  device.stream = absl::InternalError("the device has failed");
  CHECK(absl::IsInternal(operation->Ready().status()));
}

TEST_CASE("a message from a device says so, and gathers rows there") {
  FakeDevice device;
  Query query;
  Ended ended;
  const auto operation = Attend(query, device, ended);
  // Pieces 0 and 2 are of tokens 0 and 2: no one run.
  const std::vector<Built> built = BuildItems(*operation, {0, 2});
  REQUIRE(built.size() == 1);
  const Outgoing& out = built[0].out;
  CHECK(out.on_device);
  wire::RequestHeader header;
  std::memcpy(&header, out.header.data(), sizeof(header));
  CHECK((header.flags & wire::kDeviceMemory) != 0);
  REQUIRE(out.payload.size() == 2 * 2 * 12 * sizeof(Bf16));
  CHECK(device.pool().Lent(out.owned));
  CHECK(std::memcmp(out.payload.data(), query.rows.data(), 48) == 0);
  CHECK(std::memcmp(out.payload.data() + 48, query.rows.data() + 48, 48) == 0);
}

TEST_CASE("answers are merged by the device, whose failure fails the call") {
  FakeDevice device;
  device.Reach();
  Query query;
  Ended ended;
  const auto operation = Attend(query, device, ended);
  SECTION("it works") {
    operation->Finish(absl::OkStatus());
    CHECK(ended.status.ok());
    CHECK(std::isinf(query.lse[0]));  // nobody answered: empty
  }
  SECTION("it fails") {
    device.stream = absl::InternalError("the device has failed");
    operation->Finish(absl::OkStatus());
    CHECK(absl::IsInternal(ended.status));
  }
  CHECK(device.assembled == 1);
  CHECK(ended.times == 1);
}

TEST_CASE("memory that is not the device's, or not aligned, is refused by name") {
  FakeDevice device;
  Query query;
  const auto refused = [&](AttendQuery args, ClientDevice* with) {
    return MakeAttendOperation(args, TestLayout(), with, nullptr, [](const auto&) {}).status();
  };
  device.foreign = query.out.data();
  CHECK(absl::IsInvalidArgument(refused(query.args(), &device)));
  CHECK(refused(query.args(), &device).message().find("out") != std::string::npos);
  device.foreign = nullptr;
  AttendQuery args = query.args();
  std::vector<Bf16> longer(query.rows.size() + 1);
  args.rows = std::span<const Bf16>(longer).subspan(1);
  CHECK(absl::IsInvalidArgument(refused(args, &device)));
  CHECK(absl::IsFailedPrecondition(refused(query.args(), nullptr)));
}

TEST_CASE("records on a device are published from a copy, made in the stream's order") {
  FakeDevice device;
  const Layout layout = TestLayout();
  std::vector<std::byte> records(2 * layout.record_bytes(), std::byte{7});
  Ended ended;
  const auto made = MakeStagedPublish({.chunk = kFirst, .layers = 1, .tokens = 2}, records, layout,
                                      device, nullptr, [&](const absl::Status& status) {
                                        ++ended.times;
                                        ended.status = status;
                                      });
  INFO(made.status().ToString());
  REQUIRE(made.ok());
  CHECK_FALSE(*(*made)->Ready());
  device.Reach();
  CHECK(*(*made)->Ready());
  std::fill(records.begin(), records.end(), std::byte{9});  // the caller goes on
  const std::vector<Built> built = BuildItems(**made, {0});
  REQUIRE(built.size() == 1);
  CHECK(built[0].out.payload.size() == records.size());
  CHECK(built[0].out.payload[0] == std::byte{7});
  (*made)->Finish(absl::OkStatus());
  CHECK(ended.times == 1);

  device.foreign = records.data();
  CHECK(absl::IsInvalidArgument(MakeStagedPublish({.chunk = kFirst, .layers = 1, .tokens = 2},
                                                  records, layout, device, nullptr,
                                                  [](const absl::Status&) {})
                                    .status()));
}

}  // namespace
}  // namespace latentd
