#include "daemon/store/arrived_tokens.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <random>
#include <vector>

namespace latentd {
namespace {

using Piece = ArrivedTokens::Piece;

std::vector<Piece> CutOf(const ArrivedTokens& tokens, uint32_t first, uint32_t end) {
  std::vector<Piece> pieces;
  tokens.Cut(first, end, pieces);
  return pieces;
}

TEST_CASE("a prefix grows as tokens come in order") {
  ArrivedTokens tokens;
  CHECK(tokens.prefix() == 0);
  CHECK(tokens.end() == 0);
  tokens.Add(0, 10);
  tokens.Add(10, 12);
  CHECK(tokens.prefix() == 12);
  CHECK(tokens.runs() == 1);
}

TEST_CASE("tokens that come early are not in the prefix until the gap closes") {
  ArrivedTokens tokens;
  tokens.Add(5, 8);
  CHECK(tokens.prefix() == 0);
  CHECK(tokens.end() == 8);
  tokens.Add(0, 2);
  CHECK(tokens.prefix() == 2);
  CHECK(CutOf(tokens, 1, 9) ==
        std::vector<Piece>{{1, 2, true}, {2, 5, false}, {5, 8, true}, {8, 9, false}});
  tokens.Add(2, 5);
  CHECK(tokens.prefix() == 8);
  CHECK(tokens.runs() == 1);
}

TEST_CASE("random additions agree with a plain set of tokens") {
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 200; ++round) {
    ArrivedTokens tokens;
    std::vector<bool> model(64, false);
    for (int step = 0; step < 20; ++step) {
      const auto pick = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
      const uint32_t first = pick(60);
      const uint32_t end = first + 1 + pick(std::min(63 - first, 1 + pick(16)));
      size_t runs = 0;
      std::vector<bool> after = model;
      for (uint32_t t = first; t < end; ++t) after[t] = true;
      for (uint32_t t = 0; t < 64; ++t) runs += after[t] && (t == 0 || !after[t - 1]);
      const bool contained = after == model;
      REQUIRE(tokens.Contains(first, end) == contained);
      const size_t before = tokens.runs();
      const bool would_add = tokens.WouldAddRun(first, end);
      tokens.Add(first, end);
      model = after;
      REQUIRE(tokens.runs() == runs);
      REQUIRE(would_add == (runs > before));
      uint32_t prefix = 0;
      while (prefix < 64 && model[prefix]) ++prefix;
      REQUIRE(tokens.prefix() == prefix);

      const uint32_t from = random() % 63;
      uint32_t at = from;
      for (const Piece& piece : CutOf(tokens, from, 64)) {
        REQUIRE(piece.first == at);
        REQUIRE(piece.end > piece.first);
        for (; at < piece.end; ++at) REQUIRE(model[at] == piece.arrived);
      }
      REQUIRE(at == 64);
    }
  }
}

}  // namespace
}  // namespace latentd
