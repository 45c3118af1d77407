// `Deadlines` knows when each of many pending things is due. Pure: time comes in as an argument.
// Not synchronised.
#ifndef LATENTD_CLIENT_DEADLINES_H_
#define LATENTD_CLIENT_DEADLINES_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "client/clock.h"

namespace latentd {

class Deadlines {
 public:
  // REQUIRES: the pair is not there. kNever is never due.
  void Add(uint64_t due_ns, uint64_t id) { due_.insert({due_ns, id}); }
  // Nothing happens if the pair is not there.
  void Remove(uint64_t due_ns, uint64_t id) { due_.erase({due_ns, id}); }

  // Takes out what is due at `now_ns`, earliest first, and appends the ids.
  void TakeDue(uint64_t now_ns, std::vector<uint64_t>* ids) {
    while (!due_.empty() && due_.begin()->first <= now_ns && due_.begin()->first != kNever) {
      ids->push_back(due_.begin()->second);
      due_.erase(due_.begin());
    }
  }

  // When TakeDue next has something to give.
  uint64_t next_ns() const { return due_.empty() ? kNever : due_.begin()->first; }
  bool empty() const { return due_.empty(); }

 private:
  absl::btree_set<std::pair<uint64_t, uint64_t>> due_;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_DEADLINES_H_
