#include "tools/safetensors.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace latentd {
namespace {

using nlohmann::json;

constexpr uint64_t kPrefixBytes = 8;
// Far beyond any real header; keeps a broken length from being allocated.
constexpr uint64_t kMaxHeaderBytes = uint64_t{100} << 20;

uint64_t DtypeBytes(std::string_view dtype) {
  if (dtype == "F64" || dtype == "I64" || dtype == "U64") return 8;
  if (dtype == "F32" || dtype == "I32" || dtype == "U32") return 4;
  if (dtype == "BF16" || dtype == "F16" || dtype == "I16" || dtype == "U16") return 2;
  if (dtype == "I8" || dtype == "U8" || dtype == "BOOL" || dtype == "F8_E4M3" || dtype == "F8_E5M2")
    return 1;
  return 0;
}

absl::Status Wrong(std::string_view file, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(std::string(file), ": ", std::string(what)));
}

std::string ShapeText(const std::vector<uint64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

bool IsCount(const json& value) { return value.is_number_unsigned(); }

// Reads one tensor's entry; `data` is everything behind the header.
absl::StatusOr<Tensor> ParseTensor(const json& entry, std::span<const std::byte> data) {
  if (!entry.is_object() || !entry.contains("dtype") || !entry.contains("shape") ||
      !entry.contains("data_offsets")) {
    return absl::InvalidArgumentError("expected dtype, shape and data_offsets");
  }
  const json& dtype = entry["dtype"];
  const json& shape = entry["shape"];
  const json& offsets = entry["data_offsets"];
  if (!dtype.is_string() || DtypeBytes(dtype.get<std::string>()) == 0) {
    return absl::InvalidArgumentError(absl::StrCat("dtype ", dtype.dump(), " is not known"));
  }
  if (!shape.is_array() || !std::all_of(shape.begin(), shape.end(), IsCount)) {
    return absl::InvalidArgumentError("shape is not an array of sizes");
  }
  if (!offsets.is_array() || offsets.size() != 2 ||
      !std::all_of(offsets.begin(), offsets.end(), IsCount)) {
    return absl::InvalidArgumentError("data_offsets are not two numbers");
  }
  Tensor tensor;
  tensor.dtype = dtype.get<std::string>();
  tensor.shape = shape.get<std::vector<uint64_t>>();
  uint64_t bytes = DtypeBytes(tensor.dtype);
  for (const uint64_t size : tensor.shape) {
    if (__builtin_mul_overflow(bytes, size, &bytes))
      return absl::InvalidArgumentError("its size overflows");
  }
  const auto begin = offsets[0].get<uint64_t>();
  const auto end = offsets[1].get<uint64_t>();
  if (begin > end || end > data.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "data_offsets ", begin, " to ", end, " lie outside of ", data.size(), " bytes of data"));
  }
  if (end - begin != bytes) {
    return absl::InvalidArgumentError(absl::StrCat("shape ", ShapeText(tensor.shape), " of ",
                                                   tensor.dtype, " takes ", bytes,
                                                   " bytes, data_offsets give ", end - begin));
  }
  tensor.bytes = data.subspan(begin, bytes);
  return tensor;
}

}  // namespace

absl::StatusOr<SafetensorsFile> SafetensorsFile::Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": cannot be opened"));
  const std::streamoff size = file.tellg();
  if (size < 0) return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  std::vector<std::byte> content(static_cast<size_t>(size));
  file.seekg(0);
  if (!file.read(reinterpret_cast<char*>(content.data()), size)) {
    return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  }
  return Parse(path, std::move(content));
}

absl::StatusOr<SafetensorsFile> SafetensorsFile::Parse(std::string name,
                                                       std::vector<std::byte> content) {
  if (content.size() < kPrefixBytes) return Wrong(name, "too short for a safetensors file");
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, content.data(), kPrefixBytes);
  if (header_bytes > kMaxHeaderBytes || header_bytes > content.size() - kPrefixBytes) {
    return Wrong(name, absl::StrCat("its header of ", header_bytes,
                                    " bytes does not fit into the file of ", content.size()));
  }
  const char* text = reinterpret_cast<const char*>(content.data() + kPrefixBytes);
  const json header = json::parse(text, text + header_bytes, nullptr, /*allow_exceptions=*/false);
  if (!header.is_object()) return Wrong(name, "its header is not a JSON object");

  SafetensorsFile file;
  file.name_ = std::move(name);
  file.content_ = std::move(content);
  const std::span<const std::byte> data =
      std::span(file.content_).subspan(kPrefixBytes + header_bytes);
  for (const auto& [key, value] : header.items()) {
    if (key == "__metadata__") {
      if (!value.is_object()) return Wrong(file.name_, "__metadata__ is not an object");
      for (const auto& [meta, text_value] : value.items()) {
        if (!text_value.is_string())
          return Wrong(file.name_, absl::StrCat("metadata ", meta, " is not a string"));
        file.metadata_[meta] = text_value.get<std::string>();
      }
      continue;
    }
    auto tensor = ParseTensor(value, data);
    if (!tensor.ok()) {
      return Wrong(file.name_,
                   absl::StrCat("tensor ", key, ": ", std::string(tensor.status().message())));
    }
    file.tensors_[key] = *std::move(tensor);
  }
  return file;
}

absl::StatusOr<Tensor> SafetensorsFile::Get(const std::string& tensor, std::string_view dtype,
                                            const std::vector<uint64_t>& shape) const {
  const auto found = tensors_.find(tensor);
  if (found == tensors_.end())
    return absl::NotFoundError(absl::StrCat(name_, ": no tensor ", tensor));
  const Tensor& value = found->second;
  if (value.dtype != dtype || value.shape != shape) {
    return Wrong(name_,
                 absl::StrCat("tensor ", tensor, ": got ", value.dtype, " ", ShapeText(value.shape),
                              ", expected ", std::string(dtype), " ", ShapeText(shape)));
  }
  return value;
}

absl::StatusOr<double> SafetensorsFile::Number(const std::string& key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end())
    return absl::NotFoundError(absl::StrCat(name_, ": no metadata ", key));
  double number = 0;
  if (!absl::SimpleAtod(found->second, &number)) {
    return Wrong(name_,
                 absl::StrCat("metadata ", key, ": \"", found->second, "\" is not a number"));
  }
  return number;
}

}  // namespace latentd
