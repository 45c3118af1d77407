// A frontend in a process of its own, to be killed and frozen by a test. It works until it is ended
// (five minutes at most) and tells on stdout, a line each, what it has done:
//     publish ENDPOINT NODE   publishes chunks token by token and never seals them  "published N"
//     hold ENDPOINT NODE      the same of eight chunks, a token of each in turn     "published N"
//     stream ENDPOINT NODE    publishes a big chunk over and over, not sealing it   "published N"
//     attend ENDPOINT NODE    seals a chunk, leases it, asks big questions          "answered N"
//     visit ENDPOINT NODE     connects, asks once and leaves, over and over         "visited N"
// Errors are told too ("error CODE") and do not end it; a wrong answer does, with exit code 1.
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <memory>
#include <string>

#include "absl/time/clock.h"
#include "tests/cluster/frontend.h"

namespace latentd::testing {
namespace {

constexpr uint32_t kTokens = 256;
constexpr absl::Duration kTimeout = absl::Seconds(5);
const absl::Time kEnd = absl::Now() + absl::Minutes(5);

void Tell(const char* what, uint64_t count) {
  std::printf("%s %llu\n", what, static_cast<unsigned long long>(count));
  std::fflush(stdout);
}

void TellError(const absl::Status& status) {
  std::printf("error %s\n", status.ToString().c_str());
  std::fflush(stdout);
}

ChunkData OwnChunk(Frontend& frontend, const std::string& node, uint64_t salt) {
  std::mt19937_64 random(salt);
  return RandomChunk(frontend.IdOn(node, salt), kTokens, 2, RecordFormat::kBf16, random);
}

void PublishForEver(const std::string& endpoint, const std::string& node) {
  Frontend frontend(endpoint);
  uint64_t published = 0;
  for (uint64_t salt = static_cast<uint64_t>(getpid()) << 20; absl::Now() < kEnd; ++salt) {
    const ChunkData chunk = OwnChunk(frontend, node, salt);
    for (uint32_t token = 0; token < kTokens; ++token) {
      const absl::Status status = frontend.PublishPart(chunk, token, 1, kTimeout);
      if (!status.ok()) {
        TellError(status);
        absl::SleepFor(absl::Milliseconds(20));
        break;
      }
      Tell("published", ++published);
    }
  }
}

void HoldForEver(const std::string& endpoint, const std::string& node) {
  Frontend frontend(endpoint);
  std::vector<ChunkData> chunks;
  for (uint64_t i = 0; i < 8; ++i) {
    chunks.push_back(OwnChunk(frontend, node, (static_cast<uint64_t>(getpid()) << 20) + i));
  }
  uint64_t published = 0;
  for (uint32_t token = 0; absl::Now() < kEnd; token = (token + 1) % kTokens) {
    for (const ChunkData& chunk : chunks) {
      const absl::Status status = frontend.PublishPart(chunk, token, 1, kTimeout);
      if (status.ok()) {
        Tell("published", ++published);
      } else {
        TellError(status);
      }
    }
  }
}

// Nearly all of its time some megabytes are on their way.
void StreamForEver(const std::string& endpoint, const std::string& node) {
  constexpr uint32_t kBigTokens = 2048;
  Frontend frontend(endpoint);
  std::mt19937_64 random(2);
  const ChunkId id = frontend.IdOn(node, static_cast<uint64_t>(getpid()));
  const ChunkData chunk = RandomChunk(id, kBigTokens, 2, RecordFormat::kBf16, random);
  for (uint64_t published = 1; absl::Now() < kEnd;) {
    const absl::Status status = frontend.PublishPart(chunk, 0, kBigTokens, kTimeout);
    if (status.ok()) {
      Tell("published", published++);
    } else {
      TellError(status);
    }
  }
}

int AttendForEver(const std::string& endpoint, const std::string& node) {
  Frontend frontend(endpoint);
  const ChunkData chunk = OwnChunk(frontend, node, static_cast<uint64_t>(getpid()));
  std::mt19937_64 random(1);
  const Question question = MakeQuestion(1, 8, 128, true, {{&chunk, kTokens}}, random);
  uint64_t answered = 0;
  bool published = false;
  while (absl::Now() < kEnd) {
    absl::Status status;
    if (!published) {
      status = frontend.Publish(chunk, kTimeout);
      if (status.ok()) status = frontend.client().Pin({&chunk.id, 1}, absl::Minutes(1), kTimeout);
      published = status.ok();
    }
    if (status.ok()) status = frontend.AskAndCheck(question, kTimeout);
    if (status.code() == absl::StatusCode::kDataLoss) {
      TellError(status);
      return 1;
    }
    if (status.ok()) {
      Tell("answered", ++answered);
      continue;
    }
    TellError(status);
    if (status.code() == absl::StatusCode::kNotFound) published = false;
    absl::SleepFor(absl::Milliseconds(20));
  }
  return 0;
}

void VisitForEver(const std::string& endpoint, const std::string& node) {
  for (uint64_t visits = 1; absl::Now() < kEnd; ++visits) {
    Frontend frontend(endpoint);
    const ChunkId id = frontend.IdOn(node, 1);
    const auto stat = frontend.client().Stat({&id, 1}, kTimeout);
    if (stat.ok()) {
      Tell("visited", visits);
    } else {
      TellError(stat.status());
    }
  }
}

int Main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: client_process publish|hold|stream|attend|visit ENDPOINT NODE\n");
    return 2;
  }
  const std::string mode = argv[1];
  if (mode == "publish") {
    PublishForEver(argv[2], argv[3]);
  } else if (mode == "hold") {
    HoldForEver(argv[2], argv[3]);
  } else if (mode == "stream") {
    StreamForEver(argv[2], argv[3]);
  } else if (mode == "attend") {
    return AttendForEver(argv[2], argv[3]);
  } else if (mode == "visit") {
    VisitForEver(argv[2], argv[3]);
  } else {
    return 2;
  }
  return 0;
}

}  // namespace
}  // namespace latentd::testing

int main(int argc, char** argv) {
  try {
    return latentd::testing::Main(argc, argv);
  } catch (const std::exception& error) {
    std::printf("error %s\n", error.what());
    return 3;
  }
}
