#include "transport/ucx_endpoint.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace latentd {

UcxEndpoint::~UcxEndpoint() {
  if (state_->core != nullptr) state_->core->Close(state_);
}

void UcxEndpoint::Send(unsigned am_id, std::span<const std::byte> header,
                       std::span<const std::byte> payload, SendCallback done) {
  if (state_->core == nullptr) {
    // The worker is gone: nothing will ever run `done` later.
    done(state_->status);
    return;
  }
  state_->core->Send(state_, am_id, header, payload, std::move(done));
}

std::string UcxEndpoint::Transports() const {
  if (state_->ep == nullptr) return "";
  constexpr unsigned kMaxEntries = 16;
  ucp_transport_entry_t entries[kMaxEntries];
  ucp_ep_attr_t attributes = {};
  attributes.field_mask = UCP_EP_ATTR_FIELD_TRANSPORTS;
  attributes.transports.entries = entries;
  attributes.transports.num_entries = kMaxEntries;
  attributes.transports.entry_size = sizeof(ucp_transport_entry_t);
  if (ucp_ep_query(state_->ep, &attributes) != UCS_OK) return "";
  std::vector<std::string> names;
  for (unsigned i = 0; i < attributes.transports.num_entries; ++i) {
    std::string name = absl::StrCat(entries[i].transport_name, "/", entries[i].device_name);
    // UCX lists a transport once per lane.
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      names.push_back(std::move(name));
    }
  }
  return absl::StrJoin(names, " ");
}

}  // namespace latentd
