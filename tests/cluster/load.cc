#include "tests/cluster/load.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "absl/time/clock.h"
#include "tests/cluster/eventually.h"

namespace latentd::testing {

Question MakeQuestion(uint32_t layer, uint32_t tokens, uint32_t heads, bool causal,
                      std::vector<ExpectedPart> parts, std::mt19937_64& random) {
  Question question{.layer = layer,
                    .heads = heads,
                    .tokens = tokens,
                    .causal = causal,
                    .parts = std::move(parts),
                    .rows = RandomRows(uint64_t{tokens} * heads, Geometry{}, random)};
  question.answer =
      Expect(question.rows, tokens, heads, layer, question.scale, causal, question.parts);
  return question;
}

uint64_t Tally::failed() const {
  uint64_t sum = 0;
  for (const auto& [code, count] : errors) sum += count;
  return sum;
}

std::ostream& operator<<(std::ostream& out, const Tally& tally) {
  out << tally.right << " right, " << tally.wrong << " wrong, longest "
      << absl::FormatDuration(tally.longest);
  for (const auto& [code, count] : tally.errors) {
    out << "\n  " << count << " x " << absl::StatusCodeToString(code)
        << ", first: " << tally.first_error.at(code);
  }
  return out;
}

VerifyingLoad::VerifyingLoad(const std::vector<Question>& questions, int threads,
                             absl::Duration timeout, MakeAsk make_ask)
    : questions_(questions), timeout_(timeout), make_ask_(std::move(make_ask)) {
  for (int i = 0; i < threads; ++i) {
    threads_.emplace_back([this, i] { Run(static_cast<size_t>(i)); });
  }
}

VerifyingLoad::~VerifyingLoad() { Stop(); }

void VerifyingLoad::Run(size_t first) {
  Ask ask;
  try {
    ask = make_ask_();
  } catch (const std::exception& error) {
    const std::lock_guard lock(mutex_);
    ++tally_.errors[absl::StatusCode::kUnknown];
    tally_.first_error.try_emplace(absl::StatusCode::kUnknown, error.what());
    return;
  }
  for (size_t i = first; !stopping_; ++i) {
    const Question& question = questions_[i % questions_.size()];
    uint64_t round;
    {
      const std::lock_guard lock(mutex_);
      round = round_;
    }
    Partials answer;
    const absl::Time start = absl::Now();
    const absl::Status status = ask(question, timeout_, &answer);
    const absl::Duration took = absl::Now() - start;
    const bool right =
        status.ok() && Compare(answer.out, answer.lse, question.answer.out, question.answer.lse,
                               question.parts.front().chunk->geometry.latent_width)
                           .Within(kOutBound, kLseBound);
    // Who is refused at once waits a moment, as a frontend would.
    if (!status.ok()) absl::SleepFor(absl::Milliseconds(2));
    const std::lock_guard lock(mutex_);
    // Wrong is never forgotten.
    if (status.ok() && !right) ++tally_.wrong;
    if (round != round_) continue;
    tally_.longest = std::max(tally_.longest, took);
    if (right) ++tally_.right;
    if (!status.ok()) {
      ++tally_.errors[status.code()];
      tally_.first_error.try_emplace(status.code(), std::string(status.message()));
    }
  }
}

Tally VerifyingLoad::Now() const {
  const std::lock_guard lock(mutex_);
  return tally_;
}

void VerifyingLoad::Reset() {
  const std::lock_guard lock(mutex_);
  ++round_;
  const uint64_t wrong = tally_.wrong;
  tally_ = {};
  tally_.wrong = wrong;
}

bool VerifyingLoad::WaitForAnswers(uint64_t count, absl::Duration limit) const {
  const uint64_t before = Now().right;
  return Eventually(limit, [&] { return Now().right >= before + count; });
}

Tally VerifyingLoad::Stop() {
  stopping_ = true;
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
  return Now();
}

}  // namespace latentd::testing
