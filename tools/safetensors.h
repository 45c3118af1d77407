// `SafetensorsFile` reads a .safetensors file: 8 bytes of header length, a JSON header that names
// each tensor's type, shape and place, and the data. Every number in the header is checked against
// the file before it is used.
//
// Immutable once read; const calls from any thread. Spans point into the file's memory.
#ifndef LATENTD_TOOLS_SAFETENSORS_H_
#define LATENTD_TOOLS_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace latentd {

struct Tensor {
  std::string dtype;  // "BF16", "F32", "I32", ...
  std::vector<uint64_t> shape;
  std::span<const std::byte> bytes;
};

class SafetensorsFile {
 public:
  // NOT_FOUND naming the file, or INVALID_ARGUMENT naming the file and what is wrong in it.
  static absl::StatusOr<SafetensorsFile> Read(const std::string& path);
  // The same from memory; `name` is for messages.
  static absl::StatusOr<SafetensorsFile> Parse(std::string name, std::vector<std::byte> content);

  const std::string& name() const { return name_; }
  const std::map<std::string, Tensor>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  // NOT_FOUND if it is not there; INVALID_ARGUMENT if it is of another type or shape.
  absl::StatusOr<Tensor> Get(const std::string& tensor, std::string_view dtype,
                             const std::vector<uint64_t>& shape) const;
  // Metadata as a number. NOT_FOUND or INVALID_ARGUMENT.
  absl::StatusOr<double> Number(const std::string& key) const;

 private:
  SafetensorsFile() = default;

  std::string name_;
  std::vector<std::byte> content_;  // moving it moves no bytes: spans stay valid
  std::map<std::string, Tensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace latentd

#endif  // LATENTD_TOOLS_SAFETENSORS_H_
