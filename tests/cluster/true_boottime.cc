// Put before libfaketime among the libraries that are loaded first: it changes CLOCK_BOOTTIME, and
// timers by it, with the clock of the day, which nothing but the time since the boot changes.
#include <dlfcn.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

extern "C" int clock_gettime(clockid_t clock, timespec* time) noexcept {
  using ClockGettime = int (*)(clockid_t, timespec*);
  static const auto next = reinterpret_cast<ClockGettime>(dlsym(RTLD_NEXT, "clock_gettime"));
  if (clock == CLOCK_BOOTTIME || next == nullptr) {
    return static_cast<int>(syscall(SYS_clock_gettime, clock, time));
  }
  return next(clock, time);
}

extern "C" int timerfd_settime(int fd, int flags, const itimerspec* next,
                               itimerspec* before) noexcept {
  return static_cast<int>(syscall(SYS_timerfd_settime, fd, flags, next, before));
}
