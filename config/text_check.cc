#include "config/text_check.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/str_format.h"

namespace latentd {
namespace {

// Bytes of the UTF-8 character at the start of `text`, or 0 if there is none: no overlong forms, no
// surrogates, nothing above U+10FFFF.
size_t Utf8Length(std::string_view text) {
  const auto byte = [text](size_t i) -> uint32_t { return static_cast<unsigned char>(text[i]); };
  const uint32_t first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  uint32_t code = first & (0x7f >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3f);
  }
  constexpr uint32_t kSmallestOfLength[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  return code < kSmallestOfLength[length] || surrogate || code > 0x10ffff ? 0 : length;
}

struct LineFault {
  size_t offset;
  std::string message;
};

std::optional<LineFault> CheckLine(std::string_view line) {
  bool indentation = true;
  for (size_t i = 0; i < line.size();) {
    const size_t length = Utf8Length(line.substr(i));
    const auto byte = static_cast<unsigned char>(line[i]);
    if (length == 0) return LineFault{i, absl::StrFormat("byte 0x%02x is not UTF-8", byte)};
    if (byte == '\t') {
      if (indentation) return LineFault{i, "a tab indents this line: YAML wants spaces"};
    } else if ((byte < 0x20 && byte != '\r') || byte == 0x7f) {
      return LineFault{i, absl::StrFormat("control character 0x%02x", byte)};
    } else if (byte != ' ') {
      indentation = false;
    }
    i += length;
  }
  return std::nullopt;
}

}  // namespace

std::vector<ConfigFault> CheckText(std::string_view text, std::string_view file) {
  std::vector<ConfigFault> faults;
  for (int number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    if (std::optional<LineFault> fault = CheckLine(text.substr(0, end))) {
      faults.push_back(
          {std::string(file), number, static_cast<int>(fault->offset) + 1, fault->message});
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return faults;
}

}  // namespace latentd
