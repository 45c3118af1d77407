#include "transport/ucx_context.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "transport/ucx_config.h"
#include "transport/ucx_events.h"
#include "transport/ucx_log.h"
#include "transport/ucx_status.h"

namespace latentd {
namespace {

const char* InEnvironment(const std::string& name) {
  return std::getenv(absl::StrCat("UCX_", name).c_str());
}

absl::Status ApplySettings(const ContextOptions& options, ucp_config_t* config) {
  for (const UcxSetting& setting : UcxSettings(options, InEnvironment)) {
    const ucs_status_t status =
        ucp_config_modify(config, setting.name.c_str(), setting.value.c_str());
    if (status != UCS_OK && setting.required) {
      return FromUcx(status, absl::StrCat("UCX_", setting.name, "=", setting.value));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<Context>> Context::Create(const ContextOptions& options) {
  QuietUcxConnections();
  OrderUcxEvents();
  ucp_config_t* config = nullptr;
  if (const ucs_status_t status = ucp_config_read(nullptr, nullptr, &config); status != UCS_OK) {
    return FromUcx(status, "reading UCX's configuration");
  }
  const std::unique_ptr<ucp_config_t, decltype(&ucp_config_release)> owned(config,
                                                                           &ucp_config_release);
  if (absl::Status s = ApplySettings(options, config); !s.ok()) return s;

  ucp_params_t params = {};
  params.field_mask =
      UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_MT_WORKERS_SHARED | UCP_PARAM_FIELD_NAME;
  params.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP;
  params.mt_workers_shared = 1;  // one worker per lane, each on its own thread
  params.name = "latentd";
  std::vector<std::string> transports = ChosenTransports(options, InEnvironment);
  ucp_context_h handle = nullptr;
  if (const ucs_status_t status = ucp_init(&params, config, &handle); status != UCS_OK) {
    return FromUcx(status, absl::StrCat("initialising UCX with transports {",
                                        absl::StrJoin(transports, ","), "}"));
  }
  return std::make_shared<UcxContext>(handle, options.cuda, std::move(transports),
                                      SafeHeaderBytes(InEnvironment));
}

UcxContext::~UcxContext() { ucp_cleanup(handle_); }

absl::StatusOr<std::shared_ptr<void>> UcxContext::RegisterMemory(void* base, size_t bytes) {
  if (base == nullptr || bytes == 0) {
    return absl::InvalidArgumentError("registering memory: expected a base and at least one byte");
  }
  ucp_mem_map_params_t params = {};
  params.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH;
  params.address = base;
  params.length = bytes;
  ucp_mem_h memh = nullptr;
  if (const ucs_status_t status = ucp_mem_map(handle_, &params, &memh); status != UCS_OK) {
    return FromUcx(status, absl::StrCat("registering ", bytes, " bytes of memory"));
  }
  ucp_mem_attr_t attributes = {};
  attributes.field_mask = UCP_MEM_ATTR_FIELD_MEM_TYPE;
  if (const ucs_status_t status = ucp_mem_query(memh, &attributes); status != UCS_OK) {
    ucp_mem_unmap(handle_, memh);
    return FromUcx(status, absl::StrCat("asking what ", bytes, " bytes of memory are"));
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto begin = reinterpret_cast<uintptr_t>(base);
    ranges_.push_back({begin, begin + bytes, memh, attributes.mem_type});
    ranges_version_.fetch_add(1, std::memory_order_release);
  }
  return std::shared_ptr<void>(
      base, [self = shared_from_this(), memh](void*) { self->Unregister(memh); });
}

void UcxContext::Unregister(ucp_mem_h memh) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::erase_if(ranges_, [memh](const RegisteredRange& range) { return range.memh == memh; });
    ranges_version_.fetch_add(1, std::memory_order_release);
  }
  ucp_mem_unmap(handle_, memh);
}

std::vector<RegisteredRange> UcxContext::ranges() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return ranges_;
}

}  // namespace latentd
