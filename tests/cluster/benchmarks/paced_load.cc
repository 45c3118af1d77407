#include "tests/cluster/benchmarks/paced_load.h"

#include <poll.h>
#include <sys/prctl.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <deque>
#include <memory>
#include <span>
#include <stdexcept>
#include <utility>

#include "client/client.h"

namespace latentd::testing {
namespace {

// Requests of one requester that are on their way at most; what is due beyond that waits, and its
// wait counts.
constexpr size_t kMostInFlight = 256;
constexpr int64_t kLongestSleepNs = 5'000'000;

}  // namespace

int64_t SteadyNowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

struct PacedLoad::Requester {
  // What a request in flight needs to stay where it is.
  struct Slot {
    std::vector<VisibleChunk> chunks;
    QueryGroup group;
    Partials answer;
  };

  std::unique_ptr<Client> client;
  size_t question = 0;  // the next one
  int64_t due_ns = 0;   // of the next one
  int64_t period_ns = 0;
  size_t in_flight = 0;
  std::deque<Slot> slots;
  std::vector<Slot*> free;
  std::vector<Sample> samples;
};

PacedLoad::PacedLoad(const std::vector<Question>& questions, ClientOptions client,
                     PacedLoadOptions options)
    : questions_(questions),
      client_(std::move(client)),
      options_(options),
      begin_ns_(SteadyNowNs() + 100'000'000) {
  for (int i = 0; i < options_.requesters; ++i) {
    threads_.emplace_back([this, i] { Run(static_cast<size_t>(i)); });
  }
}

PacedLoad::~PacedLoad() {
  stopping_ = true;
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

std::vector<Sample> PacedLoad::Stop() {
  stopping_ = true;
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  if (!failure_.empty()) throw std::runtime_error("a requester: " + failure_);
  std::sort(samples_.begin(), samples_.end(),
            [](const Sample& a, const Sample& b) { return a.due_ns < b.due_ns; });
  return std::move(samples_);
}

void PacedLoad::Begin(Requester& requester, int64_t due_ns) {
  const Question& question = questions_[requester.question++ % questions_.size()];
  if (requester.free.empty()) {
    requester.free.push_back(&requester.slots.emplace_back());
  }
  Requester::Slot* slot = requester.free.back();
  requester.free.pop_back();
  slot->chunks.clear();
  for (const ExpectedPart& part : question.parts) {
    slot->chunks.push_back({part.chunk->id, part.visible_tokens});
  }
  slot->group = {.tokens = question.tokens, .causal = question.causal, .chunks = slot->chunks};
  slot->answer.out.assign(question.answer.out.size(), 0);
  slot->answer.lse.assign(question.answer.lse.size(), 0);
  ++requester.in_flight;
  const int64_t start_ns = SteadyNowNs();
  requester.client->StartAttend(
      {.layer = question.layer,
       .scale = question.scale,
       .heads = question.heads,
       .groups = {&slot->group, 1},
       .rows = question.rows,
       .out_format = OutFormat::kFp32,
       .out = std::as_writable_bytes(std::span(slot->answer.out)),
       .lse = slot->answer.lse},
      options_.timeout,
      [this, &requester, &question, slot, due_ns,
       start_ns](const absl::StatusOr<AttendAnswer>& attended) {
        Sample sample{.due_ns = due_ns,
                      .start_ns = start_ns,
                      .end_ns = SteadyNowNs(),
                      .status = attended.status()};
        if (attended.ok()) {
          sample.right =
              Compare(slot->answer.out, slot->answer.lse, question.answer.out, question.answer.lse,
                      question.parts.front().chunk->geometry.latent_width)
                  .Within(kOutBound, kLseBound);
          sample.retried = std::any_of(attended->holders.begin(), attended->holders.end(),
                                       [](const HolderTiming& holder) { return holder.retried; });
          ++answered_;
        }
        requester.samples.push_back(sample);
        requester.free.push_back(slot);
        --requester.in_flight;
      });
}

// Starts what is due, moves on what is under way, and sleeps until there is more to do.
void PacedLoad::Turn(Requester& requester) {
  const bool open_loop = options_.rate > 0;
  while (!stopping_) {
    const int64_t now_ns = SteadyNowNs();
    if (open_loop) {
      if (now_ns < requester.due_ns || requester.in_flight >= kMostInFlight) break;
      Begin(requester, requester.due_ns);
      requester.due_ns += requester.period_ns;
    } else {
      if (requester.in_flight > 0) break;
      Begin(requester, now_ns);
    }
  }
  if (requester.client->Progress() || !requester.client->Arm()) return;
  int64_t sleep_ns = kLongestSleepNs;
  if (open_loop && !stopping_) sleep_ns = std::min(sleep_ns, requester.due_ns - SteadyNowNs());
  if (sleep_ns <= 0 && requester.in_flight < kMostInFlight) return;
  const timespec limit{.tv_sec = 0, .tv_nsec = std::max<int64_t>(sleep_ns, 0)};
  pollfd fd{.fd = requester.client->event_fd(), .events = POLLIN, .revents = 0};
  ppoll(&fd, 1, &limit, nullptr);
}

void PacedLoad::Run(size_t index) {
  prctl(PR_SET_TIMERSLACK, 1);  // due means due
  Requester requester;
  auto client = Client::Connect(client_);
  if (!client.ok()) {
    const std::lock_guard lock(mutex_);
    failure_ = client.status().ToString();
    return;
  }
  requester.client = *std::move(client);
  requester.question = index * questions_.size() / static_cast<size_t>(options_.requesters);
  if (options_.rate > 0) {
    requester.period_ns = static_cast<int64_t>(1e9 * options_.requesters / options_.rate);
    // Connecting may have taken longer than the begin was put off.
    requester.due_ns = std::max(begin_ns_, SteadyNowNs()) +
                       requester.period_ns * static_cast<int64_t>(index) / options_.requesters;
  }
  while (!stopping_ || requester.in_flight > 0) Turn(requester);
  const std::lock_guard lock(mutex_);
  samples_.insert(samples_.end(), requester.samples.begin(), requester.samples.end());
}

}  // namespace latentd::testing
