// Messages of every kind, right and wrong: the seeds of the parser's fuzzing and a source for its
// tests. Test support.
//
// A fuzz input is one byte (0 request, 1 reply), the payload size that the transport states (8
// bytes, little-endian), and the bytes of the active-message header.
#ifndef LATENTD_TRANSPORT_WIRE_CORPUS_H_
#define LATENTD_TRANSPORT_WIRE_CORPUS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "transport/wire_build.h"
#include "transport/wire_parse.h"

namespace latentd {

enum class MessageKind : uint8_t { kRequest = 0, kReply = 1 };

struct CorpusMessage {
  std::string name;
  MessageKind kind = MessageKind::kRequest;
  bool valid = true;
  uint64_t payload_bytes = 0;
  std::vector<std::byte> header;
};

// The limits under which `valid` holds: 512 + 64 values in bf16, 61 layers.
WireLimits CorpusLimits();

std::vector<CorpusMessage> MakeCorpus();

std::vector<std::byte> ToFuzzInput(const CorpusMessage& message);

}  // namespace latentd

#endif  // LATENTD_TRANSPORT_WIRE_CORPUS_H_
