#include "config/codec.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <span>

#include "absl/strings/ascii.h"
#include "config/host_port.h"
#include "config/suggest.h"

namespace latentd {
namespace {

constexpr size_t kMaxTextBytes = 1000;
constexpr uint32_t kMaxCudaDevices = 64;

struct Unit {
  std::string_view name;
  uint64_t factor;
};

// Smallest first.
constexpr std::array<Unit, 5> kSizeUnits = {
    {{"B", 1}, {"KiB", kKiB}, {"MiB", kMiB}, {"GiB", kGiB}, {"TiB", 1024 * kGiB}}};
// In microseconds.
constexpr std::array<Unit, 5> kTimeUnits = {
    {{"us", 1}, {"ms", 1000}, {"s", 1'000'000}, {"m", 60'000'000}, {"h", 3'600'000'000}}};

absl::Status Refusal(const std::string& text, std::string_view expected) {
  return absl::InvalidArgumentError(absl::StrCat("'", text, "' is not ", std::string(expected)));
}

template <typename T>
std::optional<T> ParseWhole(std::string_view text) {
  T value{};
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

// The digits at the start of `text`, and what follows them.
std::pair<std::string_view, std::string_view> SplitUnit(std::string_view text) {
  const auto end_of_digits = std::find_if_not(text.begin(), text.end(), [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c));
  });
  const auto digits = static_cast<size_t>(end_of_digits - text.begin());
  return {text.substr(0, digits), text.substr(digits)};
}

const Unit* FindUnit(std::span<const Unit> units, std::string_view name) {
  const auto found =
      std::find_if(units.begin(), units.end(), [name](const Unit& u) { return u.name == name; });
  return found == units.end() ? nullptr : &*found;
}

// With the largest unit that leaves a whole number.
std::string FormatWithUnit(uint64_t value, std::span<const Unit> units) {
  const Unit* best = &units.front();
  for (const Unit& unit : units) {
    if (value != 0 && value % unit.factor == 0) best = &unit;
  }
  return absl::StrCat(value / best->factor, std::string(best->name));
}

absl::Status OutOfRange(const std::string& text, const std::string& min, const std::string& max) {
  return absl::InvalidArgumentError(
      absl::StrCat("'", text, "' is out of range: it must be ", min, " to ", max));
}

std::string FormatNumber(double value) {
  std::array<char, 32> buffer;
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return std::string(buffer.data(), result.ptr);
}

}  // namespace

Codec<uint64_t> CountCodec(uint64_t min, uint64_t max) {
  Codec<uint64_t> codec;
  codec.quotes_allowed = false;
  codec.format = [](const uint64_t& value) { return absl::StrCat(value); };
  codec.parse = [min, max](const std::string& text) -> absl::StatusOr<uint64_t> {
    const std::string_view digits = SplitUnit(text).first;
    // A number that is too large or negative is a number all the same.
    const bool negative = text.size() > 1 && text[0] == '-' &&
                          SplitUnit(std::string_view(text).substr(1)).second.empty();
    if (!negative && (digits.empty() || digits.size() != text.size())) {
      return Refusal(text, "a whole number");
    }
    const std::optional<uint64_t> value = ParseWhole<uint64_t>(text);
    if (!value || *value < min || *value > max) {
      return OutOfRange(text, absl::StrCat(min), absl::StrCat(max));
    }
    return *value;
  };
  return codec;
}

Codec<double> NumberCodec(double min, double max) {
  Codec<double> codec;
  codec.quotes_allowed = false;
  codec.format = FormatNumber;
  codec.parse = [min, max](const std::string& text) -> absl::StatusOr<double> {
    const std::optional<double> value = ParseWhole<double>(text);
    if (!value || !std::isfinite(*value)) return Refusal(text, "a number");
    if (*value < min || *value > max) {
      return OutOfRange(text, FormatNumber(min), FormatNumber(max));
    }
    return *value;
  };
  return codec;
}

Codec<bool> FlagCodec() {
  Codec<bool> codec;
  codec.quotes_allowed = false;
  codec.format = [](const bool& value) { return std::string(value ? "true" : "false"); };
  codec.parse = [](const std::string& text) -> absl::StatusOr<bool> {
    if (text == "true") return true;
    if (text == "false") return false;
    return Refusal(text, "true or false");
  };
  return codec;
}

Codec<std::string> TextCodec() {
  Codec<std::string> codec;
  codec.format = [](const std::string& value) { return value; };
  codec.parse = [](const std::string& text) -> absl::StatusOr<std::string> {
    if (text.empty()) return absl::InvalidArgumentError("must not be empty");
    if (text.size() > kMaxTextBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("has ", text.size(), " bytes; at most ", kMaxTextBytes, " are allowed"));
    }
    return text;
  };
  return codec;
}

Codec<std::string> NameCodec() {
  Codec<std::string> codec = TextCodec();
  codec.parse = [text_of = codec.parse](const std::string& text) -> absl::StatusOr<std::string> {
    const auto is_barred = [](unsigned char c) { return c == '/' || c <= ' ' || c == 0x7f; };
    if (std::any_of(text.begin(), text.end(), is_barred)) {
      return Refusal(text, "a name without '/', spaces and control characters");
    }
    return text_of(text);
  };
  return codec;
}

Codec<uint64_t> SizeCodec(uint64_t min, uint64_t max) {
  Codec<uint64_t> codec;
  codec.format = [](const uint64_t& value) { return FormatWithUnit(value, kSizeUnits); };
  codec.parse = [min, max](const std::string& text) -> absl::StatusOr<uint64_t> {
    constexpr std::string_view kExpected = "a size such as 512MiB or 60GiB";
    const auto [digits, suffix] = SplitUnit(text);
    const Unit* const unit = FindUnit(kSizeUnits, suffix.empty() ? "B" : suffix);
    if (digits.empty() || unit == nullptr) return Refusal(text, kExpected);
    const std::optional<uint64_t> count = ParseWhole<uint64_t>(digits);
    uint64_t value = 0;
    if (!count || __builtin_mul_overflow(*count, unit->factor, &value) || value < min ||
        value > max) {
      return OutOfRange(text, FormatWithUnit(min, kSizeUnits), FormatWithUnit(max, kSizeUnits));
    }
    return value;
  };
  return codec;
}

Codec<uint64_t> DurationCodec(DurationUnit unit, BareNumber bare, uint64_t min, uint64_t max) {
  const bool micro = unit == DurationUnit::kMicrosecond;
  const uint64_t unit_us = micro ? 1 : 1000;
  const std::string unit_name = micro ? "us" : "ms";
  const auto format_with_unit = [unit_us](uint64_t value) {
    return FormatWithUnit(value * unit_us, kTimeUnits);
  };
  Codec<uint64_t> codec;
  if (bare == BareNumber::kInUnit) {
    codec.format = [](const uint64_t& value) { return absl::StrCat(value); };
  } else {
    codec.format = format_with_unit;
  }
  codec.parse = [=](const std::string& text) -> absl::StatusOr<uint64_t> {
    const auto [digits, suffix] = SplitUnit(text);
    const bool has_unit = !suffix.empty();
    const Unit* const written =
        FindUnit(kTimeUnits, has_unit ? suffix : std::string_view(unit_name));
    if (digits.empty() || written == nullptr) {
      return Refusal(text, bare == BareNumber::kInUnit
                               ? absl::StrCat("a number of ", unit_name, " or a time such as 250ms")
                               : "a time such as 3s or 250ms");
    }
    if (!has_unit && bare == BareNumber::kRefused) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", text, "' has no unit: write a time such as 3s or 250ms"));
    }
    const std::optional<uint64_t> count = ParseWhole<uint64_t>(digits);
    uint64_t micros = 0;
    if (!count || __builtin_mul_overflow(*count, written->factor, &micros) ||
        micros / unit_us < min || micros / unit_us > max) {
      return OutOfRange(text, format_with_unit(min), format_with_unit(max));
    }
    if (micros % unit_us != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", text, "' is not a whole number of ", unit_name));
    }
    return micros / unit_us;
  };
  return codec;
}

Codec<std::string> HostPortCodec(PortZero port_zero) {
  Codec<std::string> codec;
  codec.format = [](const std::string& value) { return value; };
  codec.parse = [port_zero](const std::string& text) -> absl::StatusOr<std::string> {
    const absl::StatusOr<HostPort> address = ParseHostPort(text);
    if (!address.ok()) return address.status();
    if (address->port == 0 && port_zero == PortZero::kRefused) {
      return absl::InvalidArgumentError(absl::StrCat("'", text, "' has port 0"));
    }
    return ToString(*address);
  };
  return codec;
}

Codec<std::string> HostPortOrOffCodec() {
  Codec<std::string> codec;
  codec.format = [](const std::string& value) { return value.empty() ? "off" : value; };
  codec.parse = [](const std::string& text) -> absl::StatusOr<std::string> {
    if (text == "off") return std::string();
    absl::StatusOr<std::string> address = HostPortCodec(PortZero::kAllowed).parse(text);
    if (address.ok()) return address;
    return absl::InvalidArgumentError(absl::StrCat(address.status().message(), ", nor off"));
  };
  return codec;
}

Codec<std::string> HostCodec() {
  Codec<std::string> codec;
  codec.format = [](const std::string& value) { return value; };
  codec.parse = [](const std::string& text) -> absl::StatusOr<std::string> {
    if (absl::Status host = CheckHost(text); !host.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(host.message(), ParseHostPort(text).ok() ? ": leave the port out" : ""));
    }
    if (IsWildcard(text)) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", text, "' is an address to listen on, not one that others can reach"));
    }
    return text;
  };
  return codec;
}

Codec<Device> DeviceCodec() {
  Codec<Device> codec;
  codec.format = [](const Device& device) { return ToString(device); };
  codec.parse = [](const std::string& text) -> absl::StatusOr<Device> {
    constexpr std::string_view kCudaPrefix = "cuda:";
    if (text == "cpu") return Device{DeviceKind::kCpu, 0};
    if (text.starts_with(kCudaPrefix)) {
      const auto index = ParseWhole<uint32_t>(std::string_view(text).substr(kCudaPrefix.size()));
      if (index && *index < kMaxCudaDevices) return Device{DeviceKind::kCuda, *index};
    }
    return Refusal(text, "a device: cpu, or cuda:N such as cuda:0");
  };
  return codec;
}

Codec<std::string> TransportCodec() {
  Codec<std::string> codec;
  codec.format = [](const std::string& value) { return value; };
  codec.parse = [](const std::string& text) -> absl::StatusOr<std::string> {
    const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
      return absl::ascii_islower(static_cast<unsigned char>(c)) ||
             absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == '_';
    });
    if (text.empty() || text.size() > 32 || !plain) {
      return Refusal(text, "the name of a UCX transport such as tcp, shm or rc");
    }
    return text;
  };
  return codec;
}

std::string DidYouMean(std::string_view text, const std::vector<std::string>& names) {
  const std::optional<std::string> name = Nearest(text, names);
  return name ? absl::StrCat(" (did you mean '", *name, "'?)") : "";
}

}  // namespace latentd
