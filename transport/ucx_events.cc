#include "transport/ucx_events.h"

#include <dlfcn.h>
#include <ucs/sys/event_set.h>

#include <atomic>
#include <cstdlib>

namespace latentd {
namespace {

std::atomic<bool> called{false};

using WaitFunction = decltype(&ucs_event_set_wait);

constexpr ucs_event_set_types_t kBoth = UCS_EVENT_SET_EVREAD | UCS_EVENT_SET_EVWRITE;

struct Handler {
  ucs_event_set_handler_t call;
  void* arg;
};

void HandleInOrder(void* callback_data, ucs_event_set_types_t events, void* arg) {
  const auto* handler = static_cast<const Handler*>(arg);
  if ((events & kBoth) == kBoth) {
    handler->call(callback_data, UCS_EVENT_SET_EVWRITE, handler->arg);
    events = static_cast<ucs_event_set_types_t>(events & ~UCS_EVENT_SET_EVWRITE);
  }
  handler->call(callback_data, events, handler->arg);
}

WaitFunction UcxWait() {
  static const auto wait = reinterpret_cast<WaitFunction>(dlsym(RTLD_NEXT, "ucs_event_set_wait"));
  // Linked with libucs, so it is there.
  if (wait == nullptr) std::abort();
  return wait;
}

}  // namespace

void OrderUcxEvents() { UcxWait(); }

bool UcxEventsAreOrdered() { return called.load(std::memory_order_relaxed); }

}  // namespace latentd

extern "C" __attribute__((visibility("default"))) ucs_status_t ucs_event_set_wait(
    ucs_sys_event_set_t* event_set, unsigned* num_events, int timeout_ms,
    ucs_event_set_handler_t event_set_handler, void* arg) {
  latentd::called.store(true, std::memory_order_relaxed);
  latentd::Handler handler = {event_set_handler, arg};
  return latentd::UcxWait()(event_set, num_events, timeout_ms, latentd::HandleInOrder, &handler);
}
