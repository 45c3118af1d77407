// `Batcher` decides what is computed next. Requests wait in one queue for each session; sessions
// take turns, so that one that floods waits for itself; and whatever else waits for the same
// (chunk, layer) rides along, because it shares the pass over the records.
//
// Pure: values in, values out; no clock, no thread. Lane thread only.
#ifndef LATENTD_DAEMON_ENGINE_BATCHER_H_
#define LATENTD_DAEMON_ENGINE_BATCHER_H_

#include <cstdint>
#include <deque>
#include <limits>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"

namespace latentd {

struct BatchLimits {
  uint32_t rows = 4096;  // a request of more rows is a batch of its own
  uint32_t requests = 256;
  // Rows times the tokens that they see, likewise.
  uint64_t work = std::numeric_limits<uint64_t>::max();
};

// What the batcher needs to know of a request. `job` is the caller's name for it, unique among
// those that wait.
struct BatchItem {
  uint64_t job = 0;
  uint64_t session = 0;         // whose turn it takes
  const void* chunk = nullptr;  // of the request's first segment; null: shares with nobody
  uint32_t layer = 0;
  uint32_t rows = 0;
  uint64_t work = 0;
  absl::Time deadline = absl::InfiniteFuture();
};

class Batcher {
 public:
  explicit Batcher(BatchLimits limits) : limits_(limits) {}

  void Add(const BatchItem& item);
  // Takes a request out. False when it is not here (any more).
  bool Remove(uint64_t job);
  // Takes out what has passed its deadline and appends it to `jobs`.
  void TakeExpired(absl::Time now, std::vector<uint64_t>& jobs);
  // Takes out the next batch; empty only when nothing waits. Within a batch, requests of the same
  // (chunk, layer) are neighbours.
  void TakeBatch(std::vector<uint64_t>& jobs);

  bool empty() const { return items_.empty(); }
  uint64_t size() const { return items_.size(); }
  uint64_t rows() const { return rows_; }
  // InfiniteFuture when nothing waits.
  absl::Time next_deadline() const {
    return by_deadline_.empty() ? absl::InfiniteFuture() : by_deadline_.begin()->first;
  }

 private:
  using Sequence = uint64_t;  // order of arrival
  using Key = std::pair<const void*, uint32_t>;

  // What a batch has so far.
  struct Sum {
    uint64_t rows = 0;
    uint64_t work = 0;

    void Add(const BatchItem& item) {
      rows += item.rows;
      work += item.work;
    }
  };

  bool Fits(const BatchItem& item, const Sum& sum, size_t requests) const;
  void Take(Sequence sequence);
  void TakeMates(const Key& key, Sum& sum, std::vector<uint64_t>& jobs);

  const BatchLimits limits_;
  Sequence next_sequence_ = 0;
  uint64_t rows_ = 0;
  absl::flat_hash_map<Sequence, BatchItem> items_;
  absl::flat_hash_map<uint64_t, Sequence> by_job_;
  absl::flat_hash_map<uint64_t, absl::btree_set<Sequence>> by_session_;
  absl::flat_hash_map<Key, absl::btree_set<Sequence>> by_key_;
  absl::btree_set<std::pair<absl::Time, Sequence>> by_deadline_;
  // Sessions in the order of their next turn; those without requests are dropped when it comes.
  std::deque<uint64_t> turns_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_ENGINE_BATCHER_H_
