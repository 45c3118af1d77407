#include "tools/trace.h"

#include <cstring>
#include <filesystem>
#include <limits>

#include "absl/strings/str_cat.h"
#include "tools/safetensors.h"

namespace latentd {
namespace {

template <typename T>
absl::Status Copy(const SafetensorsFile& file, const std::string& tensor, std::string_view dtype,
                  const std::vector<uint64_t>& shape, std::vector<T>* values) {
  const absl::StatusOr<Tensor> found = file.Get(tensor, dtype, shape);
  if (!found.ok()) return found.status();
  values->resize(found->bytes.size() / sizeof(T));
  std::memcpy(values->data(), found->bytes.data(), found->bytes.size());
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> Count(const SafetensorsFile& file, const std::string& key,
                               uint32_t least) {
  const absl::StatusOr<double> number = file.Number(key);
  if (!number.ok()) return number.status();
  if (!(*number >= least && *number <= std::numeric_limits<int32_t>::max())) {
    return absl::InvalidArgumentError(absl::StrCat(file.name(), ": metadata ", key, ": got ",
                                                   *number, ", expected at least ", least));
  }
  return static_cast<uint32_t>(*number);
}

}  // namespace

absl::StatusOr<Trace> ReadTrace(const std::string& path) {
  const absl::StatusOr<SafetensorsFile> file = SafetensorsFile::Read(path);
  if (!file.ok()) return file.status();
  Trace trace;
  trace.name = std::filesystem::path(path).stem().string();
  if (const auto source = file->metadata().find("source"); source != file->metadata().end()) {
    trace.source = source->second;
  }
  if (file->metadata().contains("lse_base") && file->metadata().at("lse_base") != "e") {
    return absl::InvalidArgumentError(absl::StrCat(path, ": its log-sum-exp is not to base e"));
  }
  if (const auto topk = file->Number("index_topk"); topk.ok() && *topk > 0) {
    return absl::UnimplementedError(
        absl::StrCat(path, ": a trace of sparse selection, which is not supported yet"));
  }

  uint32_t layers = 0;
  for (const auto& [key, value] : {std::pair{"heads", &trace.heads},
                                   {"context_tokens", &trace.context},
                                   {"decode_steps", &trace.steps},
                                   {"layers", &layers},
                                   {"kv_lora_rank", &trace.geometry.latent_width},
                                   {"qk_rope_head_dim", &trace.geometry.rope_width}}) {
    const absl::StatusOr<uint32_t> count =
        Count(*file, key, key == std::string("context_tokens") ? 0 : 1);
    if (!count.ok()) return count.status();
    *value = *count;
  }
  const absl::StatusOr<double> scale = file->Number("softmax_scale");
  if (!scale.ok()) return scale.status();
  trace.scale = static_cast<float>(*scale);

  const uint64_t width = trace.geometry.row_width();
  for (uint32_t l = 0; l < layers; ++l) {
    const std::string prefix = absl::StrCat("layer", l, ".");
    TraceLayer& layer = trace.layers.emplace_back();
    for (const absl::Status& status :
         {Copy(*file, prefix + "latent", "BF16", {trace.tokens(), width}, &layer.records),
          Copy(*file, prefix + "query", "BF16", {trace.steps, trace.heads, width}, &layer.queries),
          Copy(*file, prefix + "out_latent", "F32",
               {trace.steps, trace.heads, trace.geometry.latent_width}, &layer.out),
          Copy(*file, prefix + "lse", "F32", {trace.steps, trace.heads}, &layer.lse)}) {
      if (!status.ok()) return status;
    }
  }
  return trace;
}

}  // namespace latentd
