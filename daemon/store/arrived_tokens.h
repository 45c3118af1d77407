// `ArrivedTokens` knows which tokens of one chunk have arrived in one layer: usually a prefix that
// grows, sometimes ranges beyond it that came early.
//
// A value; no locks.
#ifndef LATENTD_DAEMON_STORE_ARRIVED_TOKENS_H_
#define LATENTD_DAEMON_STORE_ARRIVED_TOKENS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace latentd {

class ArrivedTokens {
 public:
  // A run of tokens [first, end) that have arrived, or have not, as a whole.
  struct Piece {
    uint32_t first = 0;
    uint32_t end = 0;
    bool arrived = false;

    friend bool operator==(const Piece&, const Piece&) = default;
  };

  // Tokens [0, prefix()) have arrived, token prefix() has not.
  uint32_t prefix() const {
    return ranges_.empty() || ranges_.front().first > 0 ? 0 : ranges_.front().end;
  }
  // One past the last token that has arrived.
  uint32_t end() const { return ranges_.empty() ? 0 : ranges_.back().end; }
  // Separate runs of arrived tokens.
  size_t runs() const { return ranges_.size(); }

  // REQUIRES for all below: first < end.
  bool Contains(uint32_t first, uint32_t end) const;
  // Whether Add would make one more run.
  bool WouldAddRun(uint32_t first, uint32_t end) const;
  void Add(uint32_t first, uint32_t end);
  // [first, end) cut into arrived and missing runs, in order, appended to `pieces`.
  void Cut(uint32_t first, uint32_t end, std::vector<Piece>& pieces) const;

 private:
  struct Range {
    uint32_t first;
    uint32_t end;
  };

  // Index of the first run that ends at or after `token`.
  size_t FirstEndingFrom(uint32_t token) const;

  std::vector<Range> ranges_;  // ascending, neither overlapping nor touching
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_STORE_ARRIVED_TOKENS_H_
