#include "routing/layout_proto.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace latentd {

v1::Layout ToProto(const Layout& layout) {
  v1::Layout message;
  message.set_model(layout.model);
  message.set_layers(layout.layers);
  message.set_latent_width(layout.latent_width);
  message.set_rope_width(layout.rope_width);
  message.set_record(std::string(RecordFormatName(layout.record_format)));
  message.set_page_tokens(layout.page_tokens);
  v1::Rope& rope = *message.mutable_rope();
  rope.set_theta(layout.rope.theta);
  rope.set_yarn_factor(layout.rope.yarn_factor);
  rope.set_original_context(layout.rope.original_context);
  rope.set_mscale(layout.rope.mscale);
  rope.set_mscale_all_dim(layout.rope.mscale_all_dim);
  rope.set_yarn_beta_fast(layout.rope.yarn_beta_fast);
  rope.set_yarn_beta_slow(layout.rope.yarn_beta_slow);
  rope.set_interleaved(layout.rope.interleaved);
  message.set_format_version(layout.format_version);
  message.set_hash(ToInt(HashLayout(layout)));
  return message;
}

absl::StatusOr<Layout> FromProto(const v1::Layout& message) {
  Layout layout;
  layout.model = message.model();
  layout.layers = message.layers();
  layout.latent_width = message.latent_width();
  layout.rope_width = message.rope_width();
  if (message.record() == RecordFormatName(RecordFormat::kBf16)) {
    layout.record_format = RecordFormat::kBf16;
  } else if (message.record() == RecordFormatName(RecordFormat::kFp8)) {
    layout.record_format = RecordFormat::kFp8;
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("layout: unknown record format \"", message.record(), "\""));
  }
  layout.page_tokens = message.page_tokens();
  const v1::Rope& rope = message.rope();
  layout.rope.theta = rope.theta();
  layout.rope.yarn_factor = rope.yarn_factor();
  layout.rope.original_context = rope.original_context();
  layout.rope.mscale = rope.mscale();
  layout.rope.mscale_all_dim = rope.mscale_all_dim();
  layout.rope.yarn_beta_fast = rope.yarn_beta_fast();
  layout.rope.yarn_beta_slow = rope.yarn_beta_slow();
  layout.rope.interleaved = rope.interleaved();
  layout.format_version = message.format_version();

  const LayoutHash hash = HashLayout(layout);
  if (message.hash() != 0 && message.hash() != ToInt(hash)) {
    return absl::InvalidArgumentError(
        absl::StrCat("layout: the message's hash is ", ToString(LayoutHash{message.hash()}),
                     ", its fields (", ToString(layout), ") give ", ToString(hash)));
  }
  return layout;
}

}  // namespace latentd
