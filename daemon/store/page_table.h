// `PageTable` maps the pages of one chunk, in token order, to pages of the arena. Backends read it
// while a chunk that is still open grows, so a table that has been handed out is never moved or
// freed under them: when it must grow, the old copy is retired, and goes when nobody can be reading
// it any more.
//
// Lane thread only; entries that were set never change.
#ifndef LATENTD_DAEMON_STORE_PAGE_TABLE_H_
#define LATENTD_DAEMON_STORE_PAGE_TABLE_H_

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

namespace latentd {

class PageTable {
 public:
  static constexpr uint32_t kNoPage = std::numeric_limits<uint32_t>::max();

  const uint32_t* data() const { return entries_.get(); }
  uint32_t size() const { return size_; }
  uint32_t operator[](uint32_t index) const { return index < size_ ? entries_[index] : kNoPage; }

  // Makes room for `size` entries; new ones are kNoPage.
  void Grow(uint32_t size) {
    if (size > capacity_) {
      const uint32_t capacity = std::max({size, 2 * capacity_, uint32_t{8}});
      auto grown = std::make_unique<uint32_t[]>(capacity);
      std::copy_n(entries_.get(), size_, grown.get());
      std::fill(grown.get() + size_, grown.get() + capacity, kNoPage);
      if (entries_ != nullptr) retired_.push_back(std::move(entries_));
      entries_ = std::move(grown);
      capacity_ = capacity;
    }
    size_ = std::max(size_, size);
  }
  // REQUIRES: index < size(), the entry is not set.
  void Set(uint32_t index, uint32_t page) { entries_[index] = page; }
  // REQUIRES: nobody reads through a pointer from before the last Grow.
  void DropRetired() { retired_.clear(); }

 private:
  std::unique_ptr<uint32_t[]> entries_;
  std::vector<std::unique_ptr<uint32_t[]>> retired_;
  uint32_t size_ = 0;
  uint32_t capacity_ = 0;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_STORE_PAGE_TABLE_H_
