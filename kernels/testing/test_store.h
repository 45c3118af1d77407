// A small latent store for tests: chunks of random records in scattered pages, and NaN everywhere
// else.
//
// One thread. Owns the records and the page tables; views stay valid while the store lives and no
// chunk is added.
#ifndef LATENTD_KERNELS_TESTING_TEST_STORE_H_
#define LATENTD_KERNELS_TESTING_TEST_STORE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "kernels/mla.h"

namespace latentd {

class TestStore {
 public:
  // `pages`: how many the store has. Every byte starts as 0xff: a NaN in every part of every record
  // format.
  TestStore(const Geometry& geometry, RecordFormat format, uint32_t layers, uint32_t pages,
            uint64_t seed);

  // Writes a chunk of random finite records, all layers, into free pages taken in random order.
  // Latent values are about normal with standard deviation `spread`. Returns its index. REQUIRES:
  // enough free pages.
  uint32_t AddChunk(uint32_t tokens, float spread = 1.0f);

  CacheView view() const;
  const uint32_t* page_ids(uint32_t chunk) const { return chunks_[chunk].page_ids.data(); }
  uint32_t tokens(uint32_t chunk) const { return chunks_[chunk].tokens; }
  uint32_t chunks() const { return static_cast<uint32_t>(chunks_.size()); }
  uint32_t pages() const { return static_cast<uint32_t>(arena_.size() / view().page_bytes); }
  uint32_t free_pages() const { return static_cast<uint32_t>(free_.size()); }
  const Geometry& geometry() const { return geometry_; }
  RecordFormat format() const { return format_; }

  // A record to overwrite.
  std::byte* record(uint32_t chunk, uint32_t layer, uint32_t token);

 private:
  struct Chunk {
    std::vector<uint32_t> page_ids;
    uint32_t tokens;
  };

  void WriteRecord(std::byte* record, float spread);

  Geometry geometry_;
  RecordFormat format_;
  uint32_t layers_;
  std::mt19937_64 random_;
  std::vector<std::byte> arena_;
  std::vector<uint32_t> free_;
  std::vector<Chunk> chunks_;
};

}  // namespace latentd

#endif  // LATENTD_KERNELS_TESTING_TEST_STORE_H_
