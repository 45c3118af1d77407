#include "transport/ucx_address.h"

#include <cstdint>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

struct Envelope {
  uint32_t magic;
  uint32_t bytes;
  uint64_t hash;
};
static_assert(sizeof(Envelope) == 16);

constexpr uint32_t kEnvelopeMagic = 0x4144544c;  // "LTDA"
// Addresses with a dozen devices are a few hundred bytes.
constexpr size_t kMaxAddressBytes = 64 << 10;

uint64_t Fnv1a(std::string_view bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : bytes) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
  return hash;
}

}  // namespace

std::string WrapAddress(std::string_view ucx_address) {
  const Envelope envelope = {kEnvelopeMagic, static_cast<uint32_t>(ucx_address.size()),
                             Fnv1a(ucx_address)};
  std::string address(sizeof(envelope), '\0');
  std::memcpy(address.data(), &envelope, sizeof(envelope));
  address.append(ucx_address);
  return address;
}

absl::StatusOr<std::string_view> UnwrapAddress(std::string_view address) {
  Envelope envelope;
  if (address.size() <= sizeof(envelope) || address.size() > kMaxAddressBytes) {
    return absl::InvalidArgumentError(absl::StrCat("worker address: got ", address.size(),
                                                   " bytes, expected ", sizeof(envelope) + 1,
                                                   " to ", kMaxAddressBytes));
  }
  std::memcpy(&envelope, address.data(), sizeof(envelope));
  const std::string_view bytes = address.substr(sizeof(envelope));
  if (envelope.magic != kEnvelopeMagic) {
    return absl::InvalidArgumentError("worker address: not one of latentd's");
  }
  if (envelope.bytes != bytes.size() || envelope.hash != Fnv1a(bytes)) {
    return absl::InvalidArgumentError("worker address: damaged");
  }
  return bytes;
}

}  // namespace latentd
