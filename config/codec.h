// How scalar values are written in YAML: each `Codec` reads one kind from text and writes it back.
//
// Pure; any thread.
#ifndef LATENTD_CONFIG_CODEC_H_
#define LATENTD_CONFIG_CODEC_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "config/config.h"

namespace latentd {

template <typename V>
struct Codec {
  // The refusal says what is wrong with the text and what would be right; it does not name the key.
  std::function<absl::StatusOr<V>(const std::string& text)> parse;
  // parse(format(value)) == value.
  std::function<std::string(const V&)> format;
  // Numbers and flags in quotes are strings, and refused; what has letters may stand in quotes.
  bool quotes_allowed = true;
};

// A whole number in [min, max].
Codec<uint64_t> CountCodec(uint64_t min, uint64_t max);

// A finite number in [min, max].
Codec<double> NumberCodec(double min, double max);

// true or false.
Codec<bool> FlagCodec();

// Any text that is not empty, at most 1,000 bytes.
Codec<std::string> TextCodec();

// A text that can be part of a key of etcd's: without '/', spaces and control characters.
Codec<std::string> NameCodec();

// Bytes: "60GiB", "512MiB", "64KiB", "1TiB", or a plain number.
Codec<uint64_t> SizeCodec(uint64_t min, uint64_t max = std::numeric_limits<uint64_t>::max());

enum class DurationUnit { kMicrosecond, kMillisecond };
enum class BareNumber {
  kRefused,  // a number without unit is a mistake
  kInUnit,   // the key's name says the unit
};

// A count of `unit`: "3s", "250ms", "10us", "5m", "1h".
Codec<uint64_t> DurationCodec(DurationUnit unit, BareNumber bare, uint64_t min, uint64_t max);

// "host:port". Port 0, any free port, only if allowed.
enum class PortZero { kRefused, kAllowed };
Codec<std::string> HostPortCodec(PortZero port_zero);

// As HostPortCodec, or "off", which is the empty string.
Codec<std::string> HostPortOrOffCodec();

// A host name or an address others can reach, without port.
Codec<std::string> HostCodec();

// "cpu" or "cuda:0".
Codec<Device> DeviceCodec();

// A UCX transport's name.
Codec<std::string> TransportCodec();

// The name that is nearest to `text`, as " (did you mean 'x'?)", or nothing if none is near.
std::string DidYouMean(std::string_view text, const std::vector<std::string>& names);

// One of a few names.
template <typename Enum>
Codec<Enum> ChoiceCodec(std::vector<std::pair<std::string, Enum>> choices) {
  Codec<Enum> codec;
  codec.parse = [choices](const std::string& text) -> absl::StatusOr<Enum> {
    std::vector<std::string> names;
    std::string list;
    for (const auto& [name, value] : choices) {
      if (text == name) return value;
      names.push_back(name);
      absl::StrAppend(&list, list.empty() ? "" : ", ", name);
    }
    return absl::InvalidArgumentError(
        absl::StrCat("'", text, "' is not one of ", list, DidYouMean(text, names)));
  };
  codec.format = [choices](const Enum& wanted) {
    for (const auto& [name, value] : choices) {
      if (value == wanted) return name;
    }
    return std::string();
  };
  return codec;
}

}  // namespace latentd

#endif  // LATENTD_CONFIG_CODEC_H_
