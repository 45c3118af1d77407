// Replays the kept corpus and seeded mutations of it through the fuzzer's body: what CI runs where
// there is no libFuzzer. LATENTD_FUZZ_ROUNDS sets the number of mutations.
#include "transport/wire_fuzz.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "catch2/catch.hpp"
#include "transport/wire_corpus.h"

namespace latentd {
namespace {

using Input = std::vector<uint8_t>;

std::map<std::string, Input> ReadCorpus() {
  std::map<std::string, Input> corpus;
  for (const auto& entry : std::filesystem::directory_iterator("transport/corpus")) {
    std::ifstream file(entry.path(), std::ios::binary);
    corpus[entry.path().filename().string()] =
        Input(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return corpus;
}

void Run(const Input& input) { LLVMFuzzerTestOneInput(input.data(), input.size()); }

// One small change, of the kinds that parsers get wrong.
void Mutate(std::mt19937& random, const Input& other, Input* input) {
  const auto at = [&](size_t width) {
    return input->size() <= width ? 0 : random() % (input->size() - width);
  };
  const auto put = [&](auto value) {
    if (input->size() >= sizeof(value)) {
      std::memcpy(input->data() + at(sizeof(value)), &value, sizeof(value));
    }
  };
  constexpr uint64_t kInteresting[] = {0,          1,          2,          0x7f,       0x80,
                                       0xff,       0x7fff,     0xffff,     0x7fffffff, 0x80000000,
                                       0xffffffff, 1ULL << 32, 1ULL << 63, ~0ULL};
  const uint64_t value = kInteresting[random() % std::size(kInteresting)];
  switch (random() % 9) {
    case 0:
      if (!input->empty()) (*input)[at(1)] ^= static_cast<uint8_t>(1U << random() % 8);
      break;
    case 1:
      put(static_cast<uint8_t>(random()));
      break;
    case 2:
      put(static_cast<uint16_t>(value));
      break;
    case 3:
      put(static_cast<uint32_t>(value));
      break;
    case 4:
      put(value);
      break;
    case 5:
      input->resize(input->empty() ? 0 : random() % input->size());
      break;
    case 6:
      input->insert(input->end(), random() % 64, static_cast<uint8_t>(random()));
      break;
    case 7: {  // the tail of another message
      if (other.empty()) break;
      const size_t from = random() % other.size();
      input->resize(at(0));
      input->insert(input->end(), other.begin() + static_cast<ptrdiff_t>(from), other.end());
      break;
    }
    default: {  // make the sizes agree again, so that mutations get past the framing
      if (input->size() < 9 + sizeof(wire::RequestHeader)) break;
      const bool request = (*input)[0] == 0;
      const size_t fixed = request ? sizeof(wire::RequestHeader) : sizeof(wire::ReplyHeader);
      const auto meta = static_cast<uint32_t>(input->size() - 9 - fixed);
      const size_t meta_at = request ? offsetof(wire::RequestHeader, meta_bytes)
                                     : offsetof(wire::ReplyHeader, meta_bytes);
      const size_t payload_at = request ? offsetof(wire::RequestHeader, payload_bytes)
                                        : offsetof(wire::ReplyHeader, payload_bytes);
      std::memcpy(input->data() + 9 + meta_at, &meta, sizeof(meta));
      std::memcpy(input->data() + 1, input->data() + 9 + payload_at, sizeof(uint64_t));
    }
  }
}

TEST_CASE("the kept corpus holds every generated message") {
  const auto kept = ReadCorpus();
  for (const CorpusMessage& message : MakeCorpus()) {
    INFO(message.name << ": run //transport:write_corpus to write it anew");
    const auto found = kept.find(message.name);
    REQUIRE(found != kept.end());
    const auto expected = ToFuzzInput(message);
    CHECK((found->second.size() == expected.size() &&
           std::memcmp(found->second.data(), expected.data(), expected.size()) == 0));
  }
}

TEST_CASE("every kept input passes, whole and cut anywhere") {
  for (const auto& [name, input] : ReadCorpus()) {
    Run(input);
    for (size_t size = 0; size < input.size(); ++size) {
      Run(Input(input.begin(), input.begin() + static_cast<ptrdiff_t>(size)));
    }
  }
}

TEST_CASE("seeded mutations of the corpus pass") {
  std::vector<Input> inputs;
  for (const auto& [name, input] : ReadCorpus()) inputs.push_back(input);
  REQUIRE(!inputs.empty());
  const char* rounds_text = std::getenv("LATENTD_FUZZ_ROUNDS");
  const long rounds = rounds_text != nullptr ? std::atol(rounds_text) : 500'000;
  std::mt19937 random(20260101);
  for (long round = 0; round < rounds; ++round) {
    Input input = inputs[random() % inputs.size()];
    for (uint32_t change = 0; change <= random() % 6; ++change) {
      Mutate(random, inputs[random() % inputs.size()], &input);
    }
    Run(input);
  }
}

}  // namespace
}  // namespace latentd
