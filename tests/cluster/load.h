// Load that knows the answers: several threads ask questions over and over, compare every answer
// with what it must be, and note every error and how long everything took. What a fault did to the
// requesters is read from the tally.
#ifndef LATENTD_TESTS_CLUSTER_LOAD_H_
#define LATENTD_TESTS_CLUSTER_LOAD_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "tests/cluster/oracle.h"

namespace latentd::testing {

// A query and its answer. Values; the chunks that it names live elsewhere.
struct Question {
  uint32_t layer = 0;
  float scale = 0.05f;
  uint32_t heads = 0;
  uint32_t tokens = 0;
  bool causal = false;
  bool best_effort = false;
  std::vector<ExpectedPart> parts;
  std::vector<Bf16> rows;
  Partials answer;
};

// Draws rows and works out the answer.
Question MakeQuestion(uint32_t layer, uint32_t tokens, uint32_t heads, bool causal,
                      std::vector<ExpectedPart> parts, std::mt19937_64& random);

// Asks it of a cluster and must return by `timeout`, with an error if there is no answer.
using Ask =
    std::function<absl::Status(const Question& question, absl::Duration timeout, Partials* answer)>;
// Called once in each asker's thread: a client belongs to one thread.
using MakeAsk = std::function<Ask()>;

struct Tally {
  uint64_t right = 0;
  uint64_t wrong = 0;
  std::map<absl::StatusCode, uint64_t> errors;
  std::map<absl::StatusCode, std::string> first_error;  // its words
  absl::Duration longest;                               // of any question, answered or not

  uint64_t failed() const;
};
std::ostream& operator<<(std::ostream& out, const Tally& tally);

class VerifyingLoad {
 public:
  // Starts `threads` askers; each goes through `questions` from another place. The questions must
  // outlive it.
  VerifyingLoad(const std::vector<Question>& questions, int threads, absl::Duration timeout,
                MakeAsk make_ask);
  ~VerifyingLoad();

  // Since the start, or since the last Reset.
  Tally Now() const;
  // Forgets what was, and what is being asked at this moment.
  void Reset();
  // Waits until `count` more answers than now were right; whether that happened within `limit`.
  bool WaitForAnswers(uint64_t count, absl::Duration limit) const;
  // Ends the askers and returns the tally since the last Reset.
  Tally Stop();

 private:
  void Run(size_t first);

  const std::vector<Question>& questions_;
  const absl::Duration timeout_;
  const MakeAsk make_ask_;
  std::atomic<bool> stopping_{false};
  mutable std::mutex mutex_;
  Tally tally_;
  uint64_t round_ = 0;  // counts Resets
  std::vector<std::thread> threads_;
};

}  // namespace latentd::testing

#endif  // LATENTD_TESTS_CLUSTER_LOAD_H_
