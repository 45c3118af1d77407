#include "transport/ucx_address.h"

#include <cstdint>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

// Followed by UCX's bytes and the names of transports.
struct Envelope {
  uint32_t magic;
  uint32_t ucx_bytes;
  uint64_t hash;  // of ucx_bytes and what follows
};
static_assert(sizeof(Envelope) == 16);

constexpr uint32_t kEnvelopeMagic = 0x4144544c;  // "LTDA"
// Addresses with a dozen devices are a few hundred bytes.
constexpr size_t kMaxAddressBytes = 64 << 10;

uint64_t Fnv1a(uint64_t hash, std::string_view bytes) {
  for (const char c : bytes) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
  return hash;
}

uint64_t HashOf(uint32_t ucx_bytes, std::string_view body) {
  const uint64_t size =
      Fnv1a(0xcbf29ce484222325, {reinterpret_cast<const char*>(&ucx_bytes), sizeof(ucx_bytes)});
  return Fnv1a(size, body);
}

// UCX keeps the version of its format in the low half of the first byte.
int UcxVersion(const WorkerAddress& address) {
  return static_cast<unsigned char>(address.ucx.front()) & 0x0f;
}

}  // namespace

std::string WrapAddress(const WorkerAddress& address) {
  std::string body(address.ucx);
  body.append(address.transports);
  const auto ucx_bytes = static_cast<uint32_t>(address.ucx.size());
  const Envelope envelope = {kEnvelopeMagic, ucx_bytes, HashOf(ucx_bytes, body)};
  std::string wrapped(sizeof(envelope), '\0');
  std::memcpy(wrapped.data(), &envelope, sizeof(envelope));
  return wrapped + body;
}

absl::StatusOr<WorkerAddress> UnwrapAddress(std::string_view address) {
  Envelope envelope;
  if (address.size() <= sizeof(envelope) || address.size() > kMaxAddressBytes) {
    return absl::InvalidArgumentError(absl::StrCat("worker address: got ", address.size(),
                                                   " bytes, expected ", sizeof(envelope) + 1,
                                                   " to ", kMaxAddressBytes));
  }
  std::memcpy(&envelope, address.data(), sizeof(envelope));
  const std::string_view body = address.substr(sizeof(envelope));
  if (envelope.magic != kEnvelopeMagic) {
    return absl::InvalidArgumentError("worker address: not one of latentd's");
  }
  if (envelope.ucx_bytes == 0 || envelope.ucx_bytes > body.size() ||
      envelope.hash != HashOf(envelope.ucx_bytes, body)) {
    return absl::InvalidArgumentError("worker address: damaged");
  }
  return WorkerAddress{body.substr(0, envelope.ucx_bytes), body.substr(envelope.ucx_bytes)};
}

absl::Status CheckUcxVersion(const WorkerAddress& ours, const WorkerAddress& theirs) {
  if (UcxVersion(theirs) == UcxVersion(ours)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("worker address: UCX's version ", UcxVersion(theirs), ", here it is ",
                   UcxVersion(ours), " (is UCX_ADDRESS_VERSION set on one side only?)"));
}

}  // namespace latentd
