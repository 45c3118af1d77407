// The checksums of the data plane. The one that SEAL carries is the sum over every (layer, token) of the chunk, modulo 2^64, of
// the XXH3 hash of the record's bytes seeded with where it belongs. A sum does not depend on the
// order in which records come, so publisher and holder both build it as records go by; the seed
// keeps two records that changed places from cancelling out.
//
// Pure functions; any thread.
#ifndef LATENTD_TRANSPORT_RECORD_CHECKSUM_H_
#define LATENTD_TRANSPORT_RECORD_CHECKSUM_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace latentd {

// One record's share: XXH3_64 of its bytes with seed layer << 32 | token.
uint64_t RecordChecksum(std::span<const std::byte> record, uint32_t layer, uint32_t token);

// The share of records [layers][tokens][record_bytes], as PUBLISH carries them. Shares of disjoint
// ranges add up. REQUIRES: records.size() == layers * tokens * record_bytes.
uint64_t RangeChecksum(std::span<const std::byte> records, uint64_t record_bytes,
                       uint32_t first_layer, uint32_t layers, uint32_t first_token,
                       uint32_t tokens);

// XXH3_64 of a payload as it lies: what requests and replies carry in `payload_checksum`, so that
// bytes that change on the way are not taken for what was sent.
uint64_t PayloadChecksum(std::span<const std::byte> payload);

}  // namespace latentd

#endif  // LATENTD_TRANSPORT_RECORD_CHECKSUM_H_
