#include "tests/cluster/fault_world.h"

#include <catch2/catch.hpp>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "routing/chunk_id.h"
#include "tests/cluster/eventually.h"
#include "tests/cluster/frontend.h"

namespace latentd::testing {
namespace {

constexpr uint32_t kTokens = 130;
constexpr uint32_t kSmallTokens = 20;
// A question may end this much after its time: two cores, several daemons.
constexpr absl::Duration kSlack = absl::Seconds(1);
constexpr uint64_t kAnswersOfRecovery = 60;

ChunkId RandomId(std::mt19937_64& random) { return {.hi = random(), .lo = random()}; }

Question WholeChunk(const ChunkData& chunk, std::mt19937_64& random) {
  return MakeQuestion(0, 1, 4, false, {{&chunk, chunk.tokens}}, random);
}

}  // namespace

bool Skipped() {
  const absl::Status available = TestNetwork::Available();
  if (!available.ok()) WARN("skipped: " << available);
  return !available.ok();
}

AckedPublisher::AckedPublisher(ClientOptions options, uint64_t seed)
    : thread_([this, options = std::move(options), seed] { Run(options, seed); }) {}

AckedPublisher::~AckedPublisher() { Stop(); }

const std::deque<ChunkData>& AckedPublisher::Stop() {
  stopping_ = true;
  if (thread_.joinable()) thread_.join();
  return chunks_;
}

void AckedPublisher::Run(ClientOptions options, uint64_t seed) {
  Frontend frontend(std::move(options));
  std::mt19937_64 random(seed);
  while (!stopping_) {
    ChunkData chunk = RandomChunk(RandomId(random), kSmallTokens, 2, RecordFormat::kBf16, random);
    absl::Status published = absl::UnknownError("not tried");
    while (!published.ok() && !stopping_) {
      published = frontend.Publish(chunk, absl::Seconds(3));
      if (!published.ok()) {
        Failed(published);
        absl::SleepFor(absl::Milliseconds(50));
      }
    }
    if (published.ok()) {
      chunks_.push_back(std::move(chunk));
      ++acknowledged_;
    }
    absl::SleepFor(absl::Milliseconds(20));
  }
}

void AckedPublisher::Failed(const absl::Status& status) {
  const std::lock_guard lock(mutex_);
  if (failures_++ == 0) first_failure_ = status;
}

absl::Status AckedPublisher::first_failure() const {
  const std::lock_guard lock(mutex_);
  return first_failure_;
}

FaultWorld::FaultWorld(FaultWorldOptions options)
    : options_(std::move(options)), cluster_(options_.cluster) {
  Frontend publisher(cluster_.ClientOf());
  std::mt19937_64 random(23);
  for (int i = 0; i < options_.chunks; ++i) {
    chunks_.push_back(RandomChunk(RandomId(random), kTokens, 2, RecordFormat::kBf16, random));
    REQUIRE(publisher.Publish(chunks_.back()) == absl::OkStatus());
  }
  for (size_t i = 0; i < chunks_.size(); ++i) {
    const ExpectedPart one{&chunks_[i], kTokens};
    const ExpectedPart next{&chunks_[(i + 1) % chunks_.size()], 77};
    questions_.push_back(MakeQuestion(i % 2, 2, 16, true, {one, next}, random));
    questions_.push_back(MakeQuestion(i % 2, 1, 5, false, {one}, random));
  }
  load_ = std::make_unique<VerifyingLoad>(questions_, options_.askers, options_.timeout,
                                          AskThroughClient(cluster_.ClientOf()));
  publisher_ = std::make_unique<AckedPublisher>(cluster_.ClientOf(), 29);
  REQUIRE(load_->WaitForAnswers(40, absl::Seconds(20)));
  CheckUnharmed(*this, load_->Now());
  load_->Reset();
}

bool FaultWorld::Recovers(absl::Duration limit) {
  return Eventually(limit, [&] {
    const uint64_t failed = load_->Now().failed();
    const uint64_t publishes = publisher_->acknowledged();
    return load_->WaitForAnswers(kAnswersOfRecovery, options_.timeout) &&
           load_->Now().failed() == failed && publisher_->acknowledged() > publishes;
  });
}

std::vector<absl::Status> FaultWorld::AskForEverything() {
  load_->Stop();
  const std::deque<ChunkData>& acknowledged = publisher_->Stop();
  Frontend frontend(cluster_.ClientOf());
  std::mt19937_64 random(31);
  std::vector<absl::Status> failures;
  const auto ask = [&](const ChunkData& chunk) {
    const absl::Status status = frontend.AskAndCheck(WholeChunk(chunk, random), absl::Seconds(10));
    if (!status.ok()) failures.push_back(status);
  };
  for (const ChunkData& chunk : chunks_) ask(chunk);
  for (const ChunkData& chunk : acknowledged) ask(chunk);
  return failures;
}

void CheckHarmless(const FaultWorld& world, const Tally& tally) {
  CAPTURE(tally);
  CHECK(tally.wrong == 0);
  CHECK(tally.longest <= world.timeout() + kSlack);
  for (const auto& [code, count] : tally.errors) {
    CAPTURE(code, count);
    CHECK((code == absl::StatusCode::kUnavailable || code == absl::StatusCode::kDeadlineExceeded));
  }
}

void CheckUnharmed(const FaultWorld& world, const Tally& tally) {
  CheckHarmless(world, tally);
  CAPTURE(tally);
  CHECK(tally.failed() == 0);
}

void CheckPublisherUnharmed(const FaultWorld& world) {
  INFO("first failure: " << world.publisher().first_failure());
  CHECK(world.publisher().failures() == 0);
}

}  // namespace latentd::testing
