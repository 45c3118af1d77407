// `Race` is two attempts at the same work, of which one counts: the first whose every part has been
// answered. Answers of the other are dropped, so that no part of the work is ever merged twice,
// however the two holders' limits have cut it.
//
// A side is out when a part of it has failed for good. Pure; not synchronised.
#ifndef LATENTD_CLIENT_RACE_H_
#define LATENTD_CLIENT_RACE_H_

#include <array>
#include <cstdint>

namespace latentd {

class Race {
 public:
  enum Side : uint8_t { kFirst = 0, kSecond = 1 };

  static Side Other(Side side) { return side == kFirst ? kSecond : kFirst; }

  // Still to be answered, and wanted.
  bool Runs(Side side) const { return !won_ && parts_[side] > 0; }
  // One part of the side goes on as `parts` parts. REQUIRES: Runs(side).
  void Split(Side side, uint32_t parts) { parts_[side] += parts - 1; }
  // One part of the side was answered. Returns whether that was its last: the side has won.
  // REQUIRES: Runs(side).
  bool Answered(Side side) {
    won_ = --parts_[side] == 0;
    return won_;
  }
  // One part of the side has failed. Returns whether the other side still runs. REQUIRES:
  // Runs(side).
  bool Failed(Side side) {
    parts_[side] = 0;
    return Runs(Other(side));
  }

 private:
  std::array<uint32_t, 2> parts_ = {1, 1};  // still to be answered
  bool won_ = false;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_RACE_H_
